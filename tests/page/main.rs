//! The web page in a real browser, with a made-up process behind it: what is shown, that it moves, what keys do.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

use std::env;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::config::Admin;
use tidegate::control::model::{Connection, Filter, Phase, ServerState};

mod browser;
#[path = "../fake/mod.rs"]
mod fake;
mod pretence;
mod real;
#[path = "../support/mod.rs"]
mod support;

use browser::Browser;
use fake::served::{Served, TOKEN};
use pretence::{NEW, connection, fake};
use support::service::installed;

/// What who guesses is told.
const WRONG: &str =
    "The token is not the right one. It is what is in the http_token_file of [admin], read at the start.";

/// A browser takes more than one CPU. Tests take turns, so that each sees its page in time.
static TURN: Mutex<()> = Mutex::new(());

/// A browser with the page of a made-up process, after its second status: rates are known by then.
fn opened() -> Option<(Served, Browser, MutexGuard<'static, ()>)> {
    let (process, mut browser, turn) = opened_with(|admin| admin.http_write = true)?;
    browser.until("document.querySelector('#listeners td:nth-of-type(4)')?.textContent.endsWith('/s')");
    Some((process, browser, turn))
}

/// The same with other values in `[admin]`, as soon as it is opened.
fn opened_with(change: impl FnOnce(&mut Admin)) -> Option<(Served, Browser, MutexGuard<'static, ()>)> {
    if !installed(&["chromium"]) {
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let process = Served::with(fake(), change);
    let mut browser = Browser::start();
    browser.resize(1280, 900);
    browser.open(&format!("http://{}/", process.http));
    Some((process, browser, turn))
}

/// A picture for people, when `TIDEGATE_PICTURES` says in which folder.
fn picture(browser: &mut Browser, name: &str) {
    if let Some(folder) = env::var_os("TIDEGATE_PICTURES") {
        let whole = !name.starts_with("dialog");
        browser.picture(&Path::new(&folder).join(format!("{name}.png")), whole);
    }
}

/// Nothing that a reader would stumble over.
fn assert_in_order(found: &Value, at: &str) {
    for what in ["contrast", "outside", "overlaps", "headings", "unlabelled", "wide"] {
        assert_eq!(found[what], json!([]), "{what}, {at}");
    }
    assert_eq!(found["sideways"], false, "the page scrolls sideways, {at}");
    let texts = found["texts"].as_u64();
    assert!(texts > Some(200), "{texts:?} texts, {at}");
    assert_eq!(found["charts"], 3, "{at}");
    for request in found["requests"].as_array().unwrap() {
        let request = request.as_str().unwrap();
        assert!(request.starts_with("http://127.0.0.1:") || !request.contains(':'), "{request}");
    }
}

#[test]
fn it_is_in_order_in_light_and_dark_narrow_and_wide() {
    let Some((_process, mut browser, _turn)) = opened() else { return };
    browser.until("document.querySelectorAll('#connections tbody tr').length === 24");
    let mut papers = Vec::new();
    for (width, height) in [(1280, 900), (1920, 1080), (800, 900), (320, 700)] {
        browser.resize(width, height);
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            let found = browser.look();
            assert_eq!(found["width"], width);
            assert_in_order(&found, &format!("{scheme}, {width} wide"));
            papers.push(found["paper"].as_str().unwrap().to_owned());
            picture(&mut browser, &format!("{scheme}-{width}"));
        }
    }
    papers.dedup();
    assert_eq!(papers[..2], ["rgb(255, 255, 255)", "rgb(22, 24, 28)"]);
    assert_eq!(browser.complaints(), [""; 0]);
}

/// What a cell says: the row of that name, and its column by number from 1.
fn cell(browser: &mut Browser, section: &str, row: &str, column: usize) -> String {
    let script = format!(
        "[...document.querySelectorAll('#{section} tbody tr')].find((row) => row.cells[0].firstChild.textContent === {}).cells[{column}].innerText",
        json!(row)
    );
    browser
        .value(&script)
        .as_str()
        .unwrap_or_else(|| panic!("no row {row} in {section}"))
        .replace('\n', " | ")
}

/// The number at the start of a text such as `1,234/s` or `1.0 MiB/s`.
fn number(text: &str) -> f64 {
    let digits: String =
        text.chars().take_while(|char| char.is_ascii_digit() || ".,".contains(*char)).collect();
    digits.replace(',', "").parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

/// A rate is that of the last second, which may have been a long one: it must be about right soon.
fn about(browser: &mut Browser, wanted: f64, unit: &str, read: impl Fn(&mut Browser) -> String) {
    let fits = |text: &str| text.ends_with(unit) && (number(text) / wanted - 1.0).abs() < 0.2;
    for _ in 0..50 {
        if fits(&read(browser)) {
            return;
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("{} is not about {wanted}{unit}", read(browser));
}

fn cell_is_about(
    browser: &mut Browser,
    (section, row, column): (&str, &str, usize),
    wanted: f64,
    unit: &str,
) {
    about(browser, wanted, unit, |browser| cell(browser, section, row, column));
}

#[test]
fn it_says_what_the_process_says() {
    let Some((_process, mut browser, _turn)) = opened() else { return };
    about(&mut browser, 3.0 * NEW as f64, "/s", |it| it.text("#cards .card:nth-child(2) .value"));
    about(&mut browser, 27.0, " MiB/s", |it| it.text("#cards .card:nth-child(3) .value"));
    assert_eq!(browser.text("#phase"), "Serving");
    let facts = browser.text("#facts");
    for part in ["3 d 4 h", "2,513 of 65,536 (4 %)", "/etc/tidegate/proxy.toml, number 3, since 2026-11-27"] {
        assert!(facts.contains(part), "{part} in {facts}");
    }
    assert_eq!(cell(&mut browser, "listeners", "web", 0), "web | 0.0.0.0:8080, [::]:8080");
    cell_is_about(&mut browser, ("listeners", "web", 4), NEW as f64, "/s");
    cell_is_about(&mut browser, ("listeners", "pg", 5), 2.0, " MiB/s");
    cell_is_about(&mut browser, ("listeners", "pg", 6), 16.0, " MiB/s");
    assert_eq!(
        cell(&mut browser, "listeners", "pg", 7),
        "57,611 as they should | maxconn 169, connect timeout 12"
    );
    assert_eq!(cell(&mut browser, "listeners", "old (removed)", 4), "0/s");
    assert_eq!(cell(&mut browser, "pools", "beta", 2), "2 | file: 1");
    cell_is_about(&mut browser, ("pools", "beta", 5), NEW as f64, "/s");
    assert_eq!(cell(&mut browser, "pools", "beta", 9), "≤ 1.0 ms | 99 % ≤ 1.0 ms");
    assert_eq!(cell(&mut browser, "pools", "gamma", 1), "○ maint");
    assert_eq!(cell(&mut browser, "pools", "pg2", 1), "◐ drain | file: ready");
    assert_eq!(cell(&mut browser, "pools", "pg3", 1), "× removed");
    assert_eq!(cell(&mut browser, "closings", "server pg/pg3 was removed", 1), "200 of 212");
    cell_is_about(&mut browser, ("workers", "worker 1", 2), 20.0, " %");
    cell_is_about(&mut browser, ("workers", "worker 1", 3), 1000.0, "/s");
    assert_eq!(cell(&mut browser, "connections", "10.20.2.24:40023", 1), "web | → web/beta");
    assert_eq!(cell(&mut browser, "connections", "10.20.2.24:40023", 3), "7 h 20 min");
    assert_eq!(cell(&mut browser, "connections", "10.20.2.24:40023", 6), "623 MiB");
    browser.until("document.querySelector('#pools').textContent.includes('refused 1')");
}

#[test]
fn it_moves_and_bears_a_restart_and_servers_that_come_and_go() {
    let Some((process, mut browser, _turn)) = opened() else { return };
    let path = "document.querySelector('#cards .chart .line').getAttribute('d')";
    let before = browser.value(path);
    browser.until(&format!("{path} !== {before} && {path}.split('L').length > 3"));
    process.fake.world(|world| {
        world.status.pools[0].servers.retain(|server| server.name != "gamma");
        let mut delta = world.status.pools[0].servers[0].clone();
        delta.name = "delta".to_owned();
        world.status.pools[0].servers.push(delta);
        world.status.config.last_reload_successful = false;
        world.status.config.last_reload_error = Some("proxy.toml:3: unknown key `bin`".to_owned());
        world.server("pg", "pg1").unwrap().state = ServerState::Maint;
    });
    browser.until("document.querySelector('#log').children.length === 4");
    let log = browser.text("#log");
    for told in
        ["web/delta is new.", "web/gamma was removed.", "A reload failed.", "pg/pg1: ready became maint."]
    {
        assert!(log.contains(told), "{told} in {log}");
    }
    let notices = browser.text("#notices");
    assert!(
        notices.contains("unknown key `bin`") && notices.contains("No server of the pool pg takes"),
        "{notices}"
    );
    assert!(!browser.text("#pools").contains("gamma"));
    let found = browser.look();
    assert_in_order(&found, "with notices");
    picture(&mut browser, "notices");

    // All counters begin again, below what they were.
    process.fake.world(|world| {
        world.status.uptime_s = 0;
        for listener in &mut world.status.listeners {
            (listener.accepted, listener.bytes) = (0, Default::default());
        }
        for server in world.status.pools.iter_mut().flat_map(|pool| &mut pool.servers) {
            server.attempts.values_mut().for_each(|count| *count = 0);
            server.connect_seconds.count = 0;
            server.connect_seconds.buckets.iter_mut().for_each(|(_, count)| *count = 0);
        }
        world.status.config.last_reload_successful = true;
    });
    browser.until("document.querySelector('#log').textContent.includes('started again')");
    browser.until("document.querySelector('#listeners td:nth-of-type(4)').textContent.endsWith('/s')");
    cell_is_about(&mut browser, ("listeners", "web", 4), NEW as f64, "/s");

    browser.tab_to("#pause");
    browser.press(" ");
    assert_eq!(browser.value("document.querySelector('#pause').ariaPressed"), "true");
    // One answer may have been under way.
    thread::sleep(Duration::from_secs(1));
    let before = browser.value(path);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(browser.value(path), before);
    browser.press(" ");
    browser.until(&format!("{path} !== {before}"));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn keys_alone_change_a_server() {
    let Some((process, mut browser, _turn)) = opened() else { return };
    let button = "button[aria-label='Change web/alpha']";
    browser.tab_to(button);
    browser.press("Enter");
    browser.until("document.querySelector('#change').open");
    assert_eq!(browser.text("#effect"), "Nothing changes.");
    browser.press("ArrowDown");
    assert!(browser.text("#effect").starts_with("Ready becomes drain. It gets no new connections; its "));
    browser.tab_to("#token");
    browser.type_over("a guess");
    browser.press("Enter");
    browser.until("!document.querySelector('#problem').hidden");
    assert_eq!(browser.text("#problem"), format!("Not done. {WRONG}"));
    browser.resize(320, 700);
    let found = browser.look();
    assert_in_order(&found, "the dialog on a phone");
    picture(&mut browser, "dialog-320");
    browser.resize(1280, 900);
    picture(&mut browser, "dialog-1280");
    assert_eq!(browser.value("document.activeElement.id"), "token");
    browser.type_over(TOKEN);
    browser.press("Enter");
    browser.until("!document.querySelector('#change').open");
    assert_eq!(process.fake.changes(), ["state web/alpha Drain"]);
    let log = browser.text("#log");
    assert!(log.contains("Server web/alpha: state ready -> Drain. The next reload keeps it."), "{log}");
    browser.until("document.querySelector('#pools .state').textContent === '◐ drain'");
    // The focus is where it was, and updates leave it there.
    let focused = format!("document.activeElement.matches({})", json!(button));
    browser.until(&focused);
    let path = "document.querySelector('#cards .chart .line').getAttribute('d')";
    let before = browser.value(path);
    browser.until(&format!("{path} !== {before}"));
    assert_eq!(browser.value(&focused), true);

    // The token is known now.
    browser.press(" ");
    browser.until("document.querySelector('#change').open && document.querySelector('#token-field').hidden");
    browser.tab_to("#weight");
    browser.type_over("70000");
    assert_eq!(browser.text("#effect"), "The weight is a whole number from 0 to 65,535.");
    browser.type_over("5");
    browser.tab_to("#apply");
    browser.press(" ");
    browser.until("!document.querySelector('#change').open");
    assert_eq!(process.fake.changes()[1], "weight web/alpha 5");
    assert_eq!(browser.text("#log").matches("alpha").count(), 2, "each change is told once");
    browser.press("Enter");
    browser.until("document.querySelector('#change').open");
    browser.press("Escape");
    browser.until("!document.querySelector('#change').open");
}

#[test]
fn a_page_that_may_only_look_has_no_buttons_for_servers() {
    let Some((process, mut browser, turn)) = opened_with(|_| {}) else { return };
    browser.until("document.querySelector('#pools')?.textContent.includes('alpha')");
    assert_eq!(browser.value("document.querySelectorAll('#pools button').length"), 0);
    assert!(browser.text("#pools").contains("This page may only look: http_write is off."));
    drop((process, browser, turn));
    let Some((_process, mut browser, _turn)) = opened() else { return };
    browser.until("document.querySelectorAll('#pools button:not([hidden])').length === 5");
}

#[test]
fn connections_are_found_and_sorted() {
    let Some((process, mut browser, _turn)) = opened() else { return };
    let rows = "document.querySelectorAll('#connections tbody tr').length";
    browser.tab_to("#filter [name=listener]");
    browser.press("ArrowDown");
    browser.until(&format!("{rows} === 16"));
    browser.tab_to("#filter [name=idle_for]");
    browser.type_over("100s");
    browser.until(&format!("{rows} === 6"));
    assert_eq!(browser.text("#found"), "6 connections.");
    let some = |text: &str| Some(text.to_owned());
    let asked = Filter { listener: some("web"), idle_for: some("100s"), ..Filter::default() };
    assert_eq!(process.fake.world(|world| world.asked.clone()), asked);
    browser.tab_to("#filter [name=source]");
}

#[test]
fn a_filter_that_makes_no_sense_is_explained() {
    let Some((process, mut browser, _turn)) = opened() else { return };
    browser.tab_to("#filter [name=source]");
    browser.type_over("10.x");
    browser.until("!document.querySelector('#refused').hidden");
    let refused = browser.text("#refused");
    assert_eq!(
        refused,
        "Connections cannot be shown. `source`: expected 10.1.2.3, 10.0.0.0/8 or fd00::/8, found \"10.x\"."
    );
    process.fake.world(|world| world.connections = 1200);
    browser.tab_to("#filter button");
    browser.press("Enter");
    browser.until("document.querySelectorAll('#connections tbody tr').length === 200");
    assert_eq!(
        browser.text("#found"),
        "200 of the first 1,000 that fit; there are more. The filter narrows them down."
    );
    browser.tab_to("#connections th:nth-child(6) button");
    browser.press("Enter");
    assert_eq!(
        browser.value("document.querySelector('#connections th:nth-child(6)').ariaSort"),
        "descending"
    );
    let first = "document.querySelector('#connections tbody tr').cells";
    assert_eq!(browser.value(&format!("{first}[5].textContent")), "1.2 MiB");
    browser.press("Enter");
    assert_eq!(browser.value(&format!("{first}[5].textContent")), "0 B");
    browser.tab_to("#filter [name=paths]");
    browser.press(" ");
    browser.until(&format!("{first}[7].textContent === '18 ms3 sent again'"));
}

#[test]
fn a_process_that_is_gone_is_told_of_and_found_again() {
    let Some((process, mut browser, _turn)) = opened() else { return };
    let (fake, at) = (Arc::clone(&process.fake), process.http);
    drop(process);
    browser.until("document.querySelector('#lost').textContent !== ''");
    let lost = browser.text("#lost");
    assert!(lost.contains("does not answer since") && lost.contains("It cannot be reached."), "{lost}");
    assert_eq!(browser.text("#phase"), "No answer");
    let found = browser.look();
    assert_in_order(&found, "without a process");
    picture(&mut browser, "lost");
    fake.world(|world| world.status.phase = Phase::Draining);
    let _process = Served::with(fake, |admin| admin.http = Some(at));
    browser.until("document.querySelector('#lost').textContent === ''");
    assert_eq!(browser.text("#phase"), "Draining");
    let log = browser.text("#log");
    assert!(log.contains("answers again") && log.contains("The process is draining."), "{log}");
    assert!(browser.text("#notices").contains("it takes no new connections"));
}

#[test]
fn who_may_only_look_with_the_token_is_asked_for_it_once() {
    let others = |admin: &mut Admin| {
        admin.http = Some("0.0.0.0:0".parse().unwrap());
        admin.http_write = true;
    };
    let Some((_process, mut browser, _turn)) = opened_with(others) else { return };
    browser.until("document.querySelector('#enter') && !document.querySelector('#enter').hidden");
    assert_eq!(browser.value("document.activeElement.id"), "key");
    picture(&mut browser, "token");
    browser.type_over("a guess");
    browser.press("Enter");
    browser.until(&format!("document.querySelector('#wrong').textContent === '{WRONG}'"));
    browser.type_over(TOKEN);
    browser.press("Enter");
    browser.until("document.querySelectorAll('#connections tbody tr').length === 24");
    assert_eq!(browser.value("document.querySelector('#enter').hidden"), true);
    // It is known for changes, too.
    browser.tab_to("button[aria-label='Change web/alpha']");
    browser.press("Enter");
    browser.until("document.querySelector('#change').open && document.querySelector('#token-field').hidden");
    browser.press("Escape");
    browser.tab_to("#forget");
    browser.press("Enter");
    browser.until("!document.querySelector('#enter').hidden");
}

#[test]
fn text_from_elsewhere_stays_text() {
    let Some((process, mut browser, _turn)) = opened() else { return };
    const ODD: &str = "<img src=x onerror=\"document.title='run'\"> & <b>bold</b>";
    let odd = ODD;
    process.fake.world(|world| {
        let status = &mut world.status;
        status.listeners[0].name = odd.to_owned();
        status.listeners[0].addresses = vec![odd.to_owned()];
        status.listeners[0].closed.insert(odd.to_owned(), 3);
        status.pools[0].name = odd.to_owned();
        status.pools[0].servers[0].name = odd.to_owned();
        status.closings[0].why = odd.to_owned();
        status.workers[0].engine = odd.to_owned();
        status.config.file = odd.to_owned();
        status.config.last_reload_successful = false;
        status.config.last_reload_error = Some(odd.to_owned());
        world.connection =
            |number| Connection { id: ODD.to_owned(), server: Some(ODD.to_owned()), ..connection(number) };
    });
    browser.until(&format!("document.querySelector('#connections').textContent.includes({})", json!(odd)));
    for section in ["facts", "notices", "closings", "listeners", "pools", "workers", "filter", "log"] {
        let text = browser.value(&format!("document.querySelector('#{section}').textContent"));
        assert!(text.as_str().unwrap().contains(odd), "{section}: {text}");
    }
    assert_eq!(browser.value("document.querySelectorAll('img, main b:not(dialog b)').length"), 0);
    assert_eq!(browser.value("document.title"), "tidegate serving");
    browser.resize(320, 700);
    let found = browser.look();
    assert_eq!(found["sideways"], false, "{}", found["wide"]);
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Rows that are laid out as cards are rows of a table still, for who hears the page.
#[test]
fn a_screen_reader_finds_tables_on_a_phone_too() {
    let Some((_process, mut browser, _turn)) = opened() else { return };
    browser.resize(320, 700);
    let roles = browser.roles();
    let count = |role: &str| roles.iter().filter(|known| *known == role).count();
    assert_eq!(count("table"), 6, "{roles:?}");
    assert!(count("columnheader") > 35 && count("rowheader") > 35 && count("row") > 40, "{roles:?}");
    for role in ["main", "banner", "navigation", "log", "status", "form"] {
        assert!(count(role) > 0, "{role} in {roles:?}");
    }
}
