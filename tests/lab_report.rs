//! The lab's report in a real browser: light and dark, narrow and wide, as a reader has it.
#![cfg(all(feature = "lab", target_os = "linux"))]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate::lab::report;
use tidegate::lab::results::Results;

mod support;

use support::results::{LAST_WORDS, sample, sample_of};
use support::service::{client, installed, run_for};

/// A browser on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

/// Looks at a report in a frame, and leaves what it found as JSON.
const FRAME: &str = include_str!("support/look.html");
const LOOK: &str = include_str!("support/look.js");

const DARK: u8 = 0;
const LIGHT: u8 = 1;

/// Runs the browser on `page`, and gives its standard output.
fn browse(directory: &Path, page: &Path, mode: u8, width: u32, action: &str) -> String {
    let mut browser = client("chromium");
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]);
    browser.args([
        "--hide-scrollbars",
        "--run-all-compositor-stages-before-draw",
        "--virtual-time-budget=5000",
    ]);
    browser.arg(format!("--user-data-dir={}", directory.join("profile").display()));
    browser.arg(format!("--blink-settings=preferredColorScheme={mode}"));
    browser.arg(format!("--window-size={},1200", width.max(500)));
    run_for(PATIENCE, browser.arg(action).arg(page))
}

/// What the script of `look.html` has measured.
fn look(directory: &Path, mode: u8, width: u32) -> Value {
    let page = directory.join(format!("look-{mode}-{width}.html"));
    fs::write(&page, FRAME.replace("WIDTH", &width.to_string()).replace("LOOK_JS", LOOK)).unwrap();
    let dom = browse(directory, &page, mode, width.max(500), "--dump-dom");
    let (_, rest) = dom.split_once("<pre id=\"found\">").unwrap_or_else(|| panic!("no findings in {dom}"));
    let (found, _) = rest.split_once("</pre>").unwrap();
    let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: {found}"))
}

fn written(results: &Results) -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let written = report::write(results, directory.path()).unwrap();
    let html = fs::read_to_string(&written.report).unwrap();
    (directory, html)
}

/// Nothing that a reader would stumble over.
fn assert_in_order(found: &Value, mode: u8, width: u32) {
    let at = format!("mode {mode}, width {width}");
    let none = |what: &str| {
        assert_eq!(found[what].as_array().map(Vec::len), Some(0), "{what}, {at}: {:#}", found[what]);
    };
    assert_eq!(found["width"], width, "{at}");
    assert_eq!(found["sideways"], false, "the page scrolls sideways, {at}: {:#}", found["wide"]);
    for what in ["contrast", "outside", "overlaps", "headings", "unlabelled", "requests"] {
        none(what);
    }
    assert!(found["texts"].as_u64() > Some(500), "{at}: {found}");
    assert!(found["charts"].as_u64() > Some(20), "{at}: {found}");
    // Text of charts as it is on the screen, in pixels.
    assert!(found["smallest"].as_f64() >= Some(9.5), "{at}: {}", found["smallest"]);
}

#[test]
fn a_browser_shows_the_report_in_light_and_dark_narrow_and_wide() {
    if !installed(&["chromium"]) {
        return;
    }
    let (directory, _) = written(&sample());
    let mut papers = Vec::new();
    for mode in [LIGHT, DARK] {
        for width in [360, 1_600] {
            let found = look(directory.path(), mode, width);
            assert_in_order(&found, mode, width);
            papers.push(found["paper"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(papers[..2], ["rgb(255, 255, 255)"; 2]);
    assert_eq!(papers[2..], ["rgb(22, 24, 28)"; 2]);
}

#[test]
fn a_run_of_which_little_is_known_is_shown_too() {
    if !installed(&["chromium"]) {
        return;
    }
    let mut results = sample_of(0);
    results.about.interrupted = true;
    let (directory, html) = written(&results);
    assert!(html.contains("the run was interrupted before"), "a cell that was not reached");
    let found = look(directory.path(), LIGHT, 360);
    assert_eq!(found["sideways"], false, "{:#}", found["wide"]);
    assert_eq!(found["contrast"].as_array().map(Vec::len), Some(0), "{found:#}");
}

#[test]
fn what_a_proxy_said_stays_text_and_nothing_is_fetched() {
    let (_directory, html) = written(&sample());
    assert!(
        html.contains("&lt;script&gt;document.title = 'run'&lt;/script&gt; &amp; &lt;b&gt;more&lt;/b&gt;")
    );
    assert!(LAST_WORDS.contains("<script>") && !html.contains("<script"), "there is a script in the page");
    for fetched in ["src=\"http", "href=\"http", "url(", "@import", "<link", "<iframe", "<img"] {
        assert!(!html.contains(fetched), "the page has {fetched}");
    }
}

#[test]
fn both_files_are_whole_and_nothing_else_is_left() {
    let results = sample();
    let (directory, _) = written(&results);
    let read = Results::read(&directory.path().join("results.json")).unwrap();
    assert_eq!(report::terminal(&read), report::terminal(&results));
    let mut names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["report.html", "results.json"]);
}

/// The look finds what it looks for.
#[test]
fn a_bad_page_is_found_out() {
    if !installed(&["chromium"]) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let bad = "<!DOCTYPE html><title></title><h3>Too deep</h3><p style='color:#999'>Too pale</p>\
        <p style='width:900px'>Too wide</p><table><tr><th>Of what?</table><a href='#nowhere'>Go</a>\
        <svg class=chart viewBox='0 0 100 50'><text x=95 y=20 font-size=9>Over the edge</text>\
        <text x=95 y=22 font-size=9>And over another</text></svg><img src='picture.png'>";
    fs::write(directory.path().join("report.html"), bad).unwrap();
    let found = look(directory.path(), LIGHT, 360);
    assert_eq!(found["sideways"], true);
    for what in ["contrast", "outside", "overlaps", "headings", "unlabelled", "requests", "wide"] {
        assert_ne!(found[what].as_array().map(Vec::len), Some(0), "{what}: {found:#}");
    }
    assert!(found["smallest"].as_f64() > Some(9.5), "{found:#}");
}
