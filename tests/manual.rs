//! What the shell and man(1) are given: scripts that shells take, pages that troff takes, and nothing in them that is for
//! the program itself only.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::service::{client, installed, run};

/// Commands that the program starts itself with.
const HIDDEN: [&str; 4] = ["lab-load", "lab-proxy", "lab-start", "demo-server"];

/// Commands that everybody has.
const SHOWN: [&str; 5] = ["run", "check", "engines", "completions", "man"];

/// What the program writes, in success and without a complaint.
fn tidegate(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tidegate")).args(args).output().expect("the program starts");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn scripts_complete_what_is_shown() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = tidegate(&["completions", shell]);
        for hidden in HIDDEN {
            assert!(!script.contains(hidden), "{shell}: {hidden}");
        }
        for shown in SHOWN.iter().chain(&["config"]) {
            assert!(script.contains(shown), "{shell}: {shown}");
        }
    }
}

#[test]
fn shells_take_their_scripts() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        if !installed(&[shell]) {
            continue;
        }
        let file = directory.path().join(shell);
        fs::write(&file, tidegate(&["completions", shell])).unwrap();
        run(client(shell).arg("-n").arg(&file));
    }
}

/// Types `tidegate ch` and a tab.
#[test]
fn bash_completes_a_command() {
    if !installed(&["bash"]) {
        return;
    }
    let completed = |words: &str| {
        let ask = format!(
            "source /dev/stdin <<'END'\n{}\nEND\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             word=${{COMP_WORDS[COMP_CWORD]}}; before=${{COMP_WORDS[COMP_CWORD - 1]}}; \
             _tidegate tidegate \"$word\" \"$before\"; echo \"${{COMPREPLY[@]}}\"",
            tidegate(&["completions", "bash"])
        );
        run(client("bash").args(["--norc", "-c", &ask])).trim().to_owned()
    };
    assert_eq!(completed("tidegate ch"), "check");
    assert_eq!(completed("tidegate run --eng"), "--engine");
    assert_eq!(completed("tidegate check --format h"), "human");
    assert_eq!(completed("tidegate demo-s"), "");
}

#[test]
fn there_is_a_page_for_each_command_and_troff_takes_it() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("share/man/man1");
    assert_eq!(tidegate(&["man", "--out", folder.to_str().unwrap()]), "");
    let files: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for shown in SHOWN {
        assert!(files.contains(&format!("tidegate-{shown}.1")), "{files:?}");
    }
    assert_eq!(files.contains("tidegate-lab-run.1"), cfg!(feature = "lab"), "{files:?}");
    for name in &files {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.is_ascii(), "{name}");
        assert!(
            !HIDDEN.iter().any(|hidden| name.contains(hidden) || text.replace('\\', "").contains(hidden)),
            "{name}"
        );
    }
    assert_eq!(tidegate(&["man"]), fs::read_to_string(folder.join("tidegate.1")).unwrap());
    if installed(&["groff"]) {
        files.iter().for_each(|name| shows_without_a_warning(&folder.join(name)));
    }
}

fn shows_without_a_warning(page: &Path) {
    let output = Command::new("groff").args(["-man", "-ww", "-Tutf8", "-P-bcou"]).arg(page).output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), ""),
        "{page:?}"
    );
    let shown = String::from_utf8_lossy(&output.stdout);
    for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"] {
        assert!(shown.contains(heading), "{page:?}: {heading}");
    }
}

/// Examples are shown line by line, and the sections of the help are those of the page.
#[test]
fn the_end_of_the_help_is_in_the_page() {
    if !installed(&["groff"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_str().unwrap();
    tidegate(&["man", "--out", folder]);
    let shown = |name: &str| {
        let page = directory.path().join(name);
        // Lines as long as they are.
        run(client("groff").args(["-man", "-Tascii", "-P-bcou", "-rLL=160n"]).arg(page))
    };
    let check = shown("tidegate-check.1");
    for part in [
        "\nEXAMPLES\n",
        "\nEXIT CODES\n",
        "  tidegate check -q -c proxy.toml               says something only",
    ] {
        assert!(check.contains(part), "{part:?} is not in\n{check}");
    }
    let engines = shown("tidegate-engines.1");
    assert!(engines.contains("An engine is chosen with"), "{engines}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tidegate")).args(["man", "--out", "/dev/null/x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("tidegate: cannot make /dev/null/x: "), "{said}");
}
