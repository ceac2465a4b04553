//! What the source must look like where no compiler or lint tells: which room may use what, where `unsafe` may
//! stand, how long a file may be, what must not be left behind.
//!
//! The source is read as text, with comments and literals blanked out. Each check is a function over text, and is
//! shown at the end to find what it looks for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

mod code;

use code::{Use, blank, has_word, uses};

const LINES_MAX: usize = 800;
/// Rooms without sockets, clocks and system calls.
const PURE: [&str; 8] =
    ["relay", "session", "balance", "health", "admission", "path", "proxy_header", "client_hello"];
/// The only places with `unsafe`; the last is a test, whose allocator counts.
const UNSAFE_UNDER: [&str; 3] = ["src/sys/", "src/engine/uring/", "tests/allocations.rs"];
/// Modules of a few lines that every room may use and that use none.
const LEAVES: [&str; 3] = ["mutant", "say", "tick"];

/// A file of this repository, by its path from the root.
struct File {
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_string(), text: text.to_string() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The room of a file under `src`: `relay` for `src/relay/flow.rs`, `tick` for `src/tick.rs`.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let room = inside.split('/').next()?;
        let room = room.strip_suffix(".rs").unwrap_or(room);
        (room != "lib" && room != "main").then_some(room)
    }

    /// The place of a finding.
    fn at(&self, line: usize) -> String {
        format!("{}:{}", self.path, line + 1)
    }
}

/// Every text file of the repository that a person wrote.
fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(root, root, &mut files);
    assert!(files.len() > 50, "the tree was not found: {} files", files.len());
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository").map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        // In a second work tree `.git` is a file.
        if ["target", ".git", "corpus"].iter().any(|skipped| name == *skipped) {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).unwrap().to_str().expect("names are UTF-8").replace('\\', "/");
            files.push(File { path, text });
        }
    }
}

/// The rooms from the top to the bottom, as the map in `src/lib.rs` has them.
fn order(lib: &str) -> Vec<&str> {
    lib.lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.split(" | ").next())
        .map(|cell| cell.trim_matches(['[', ']', '`']))
        .filter(|cell| *cell != "room" && !cell.starts_with('-'))
        .collect()
}

/// Uses of rooms that are not below the one that uses them.
fn upward_uses(files: &[File], order: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(room) = file.room() else { continue };
        let Some(place) = place(order, room) else {
            findings.push(format!("{}: the map in src/lib.rs has no room `{room}`", file.path));
            continue;
        };
        for Use { line, root, path } in uses(&blank(&file.text)) {
            let Some(used) = path.first().filter(|_| root == "crate") else { continue };
            if used == room || place_is_below(order, place, used) {
                continue;
            }
            let item = path.get(1).map_or("", String::as_str);
            findings
                .push(format!("{}: `{room}` uses `{used}::{item}`, which is not below it", file.at(line)));
        }
    }
    findings
}

/// How far down a room is; leaves are below everything.
fn place(order: &[&str], room: &str) -> Option<usize> {
    order.iter().position(|listed| *listed == room).or_else(|| LEAVES.contains(&room).then_some(order.len()))
}

fn place_is_below(order: &[&str], of: usize, used: &str) -> bool {
    place(order, used).is_some_and(|used| used > of)
}

/// Sockets, clocks and system calls in a pure room.
fn impurities(file: &File) -> Vec<String> {
    let addresses = ["SocketAddr", "SocketAddrV4", "SocketAddrV6", "IpAddr", "Ipv4Addr", "Ipv6Addr"];
    if !file.room().is_some_and(|room| PURE.contains(&room)) {
        return Vec::new();
    }
    let code = blank(&file.text);
    let mut findings = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for word in ["Instant", "SystemTime", "mio", "socket2", "rustix", "libc"] {
            if has_word(line, word) {
                findings.push(format!("{}: `{word}` in a pure room", file.at(number)));
            }
        }
    }
    for Use { line, root, path } in uses(&code) {
        let [first, rest @ ..] = path.as_slice() else { continue };
        let of_net = || rest.first().map_or("", String::as_str);
        let impure = match (root.as_str(), first.as_str()) {
            ("crate", "sys") => true,
            ("std", "net") => !addresses.contains(&of_net()),
            ("std", "fs" | "thread" | "process" | "os") => true,
            _ => false,
        };
        if impure {
            findings.push(format!("{}: `{root}::{}` in a pure room", file.at(line), path.join("::")));
        }
    }
    findings
}

/// `unsafe` where it must not be, or without its reason. A function that is declared so has none: its caller has.
fn unsafe_without_reason(file: &File) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    for (number, line) in blank(&file.text).lines().enumerate() {
        if !has_word(line, "unsafe") {
            continue;
        }
        let above = lines[..number].iter().rev().map(|line| line.trim_start());
        let reasoned = above.take_while(|line| line.starts_with("//")).any(|line| line.contains("SAFETY:"));
        if !UNSAFE_UNDER.iter().any(|folder| file.path.starts_with(folder)) {
            findings.push(format!("{}: `unsafe` outside of {UNSAFE_UNDER:?}", file.at(number)));
        } else if !reasoned && !line.contains("unsafe fn") {
            findings.push(format!("{}: `unsafe` without a `SAFETY:` comment above", file.at(number)));
        }
    }
    findings
}

/// What is left behind by work that is not done.
fn leftovers(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in blank(&file.text).lines().enumerate() {
        for left in ["todo!", "unimplemented!", "dbg!", "#[ignore"] {
            if line.contains(left) {
                findings.push(format!("{}: `{left}`", file.at(number)));
            }
        }
    }
    findings
}

fn too_long(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > LINES_MAX).then(|| format!("{}: {lines} lines, over {LINES_MAX}", file.path))
}

/// The control room decides nothing on the data path.
fn control_uses_engine(file: &File) -> Vec<String> {
    let of_control = file.room() == Some("control");
    let uses = uses(&blank(&file.text)).into_iter().filter(|it| {
        of_control && it.root == "crate" && it.path.first().is_some_and(|used| used == "engine")
    });
    uses.map(|it| format!("{}: `control` uses `engine`", file.at(it.line))).collect()
}

/// Paths that mean something on one machine only.
fn machine_paths(file: &File) -> Vec<String> {
    let folders = ["work", "tmp/wt", "root", "home", "Users"].map(|name| format!("/{name}/"));
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for folder in &folders {
            let starts_there = |at: usize| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|before| before.is_alphanumeric() || "./-_*}".contains(before))
            };
            if line.match_indices(folder.as_str()).any(|(at, _)| starts_there(at)) {
                findings.push(format!("{}: a path of one machine: {folder}", file.at(number)));
            }
        }
    }
    findings
}

/// Names of tests in the last column of a page's tables for which there is no function.
fn unknown_tests(page: &File, files: &[File]) -> Vec<String> {
    let functions: BTreeSet<String> = files
        .iter()
        .filter(|file| file.path.starts_with("tests/") || file.path.starts_with("src/"))
        .filter(|file| file.is_rust())
        .flat_map(|file| code::functions(&blank(&file.text)))
        .collect();
    let mut findings = Vec::new();
    let rows = page.text.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    for (number, row) in rows {
        let Some(cell) = row.trim_end_matches(['|', ' ']).rsplit('|').next() else { continue };
        let quoted = cell.split('`').skip(1).step_by(2);
        // A test may be named with its file, as in `tests/engines.rs: stuck_client`.
        for name in quoted.map(|name| name.rsplit(' ').next().unwrap_or(name)) {
            if !functions.contains(name) {
                findings.push(format!("{}: there is no test `{name}`", page.at(number)));
            }
        }
    }
    findings
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

fn assert_tidy<Findings: IntoIterator<Item = String>>(check: impl Fn(&File) -> Findings) {
    let files = tree();
    assert_none(&files.iter().filter(|file| file.is_rust()).flat_map(check).collect::<Vec<_>>());
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let files = tree();
    let lib = files.iter().find(|file| file.path == "src/lib.rs").expect("the map");
    let order = order(&lib.text);
    assert!(order.len() >= 12 && order.contains(&"relay"), "the map was not understood: {order:?}");
    assert_none(&upward_uses(&files, &order));
}

#[test]
fn pure_rooms_are_pure() {
    assert_tidy(impurities);
}

#[test]
fn unsafe_is_where_it_may_be_and_gives_its_reason() {
    assert_tidy(unsafe_without_reason);
}

#[test]
fn nothing_is_left_undone() {
    assert_tidy(leftovers);
}

#[test]
fn files_are_short() {
    assert_tidy(too_long);
}

#[test]
fn control_leaves_the_engines_alone() {
    assert_tidy(control_uses_engine);
}

#[test]
fn no_path_of_a_machine_is_in_the_tree() {
    let files = tree();
    assert_none(&files.iter().flat_map(machine_paths).collect::<Vec<_>>());
}

#[test]
fn pages_name_tests_that_exist() {
    let files = tree();
    for page in ["docs/TRAPS.md", "docs/features.md"] {
        let page = files.iter().find(|file| file.path == page).expect("the page is there");
        assert_none(&unknown_tests(page, &files));
    }
}

/// Each check finds what it looks for, and nothing in what is right.
mod the_checks {
    use super::*;

    fn found(findings: impl IntoIterator<Item = String>, parts: &[&str]) {
        let findings: Vec<String> = findings.into_iter().collect();
        let matches = findings.len() == parts.len()
            && findings.iter().zip(parts).all(|(finding, part)| finding.contains(part));
        assert!(matches, "{parts:?} expected, but: {findings:#?}");
    }

    #[test]
    fn find_an_upward_use() {
        let lib = "//! | room | what |\n//! |---|---|\n//! | [`worker`] | a |\n//! | `engine` | b |\n//! | [`session`] | c |\n";
        let order = order(lib);
        assert_eq!(order, ["worker", "engine", "session"]);
        let down = "use crate::session::{Session, State};\nuse crate::tick::Tick;\n";
        let found_in = |path: &str, text: &str, parts: &[&str]| {
            found(upward_uses(&[File::new(path, text)], &order), parts);
        };
        found_in("src/engine/mod.rs", down, &[]);
        let up = format!("{down}fn f() {{ crate::worker::{{Timers, Table}}; }}");
        found_in("src/engine/mod.rs", &up, &["mod.rs:3: `engine` uses `worker::Timers`", "`worker::Table`"]);
        let mixed = format!("{down}use crate::{{session::Session, worker::Gate}};");
        found_in("src/engine/mod.rs", &mixed, &["mod.rs:3: `engine` uses `worker::Gate`"]);
        found_in(
            "src/session/dial.rs",
            "use crate::engine::Order;",
            &["dial.rs:1: `session` uses `engine::Order`"],
        );
        let findings = upward_uses(&[File::new("src/attic.rs", "")], &order);
        assert!(findings[0].contains("no room `attic`"), "{findings:?}");
    }

    #[test]
    fn find_impurities() {
        let pure =
            "use std::net::{IpAddr, SocketAddr};\n// std::net::TcpStream, Instant\nconst A: &str = \"mio\";";
        found(impurities(&File::new("src/relay/mod.rs", pure)), &[]);
        for (bad, part) in [
            ("use std::net::{SocketAddr, TcpStream};", ":1: `std::net::TcpStream`"),
            ("use std::net;", "`std::net`"),
            ("\nlet now = std::time::Instant::now();", ":2: `Instant`"),
            ("use std::time::SystemTime;", "`SystemTime`"),
            ("use crate::sys::Pool;", "`crate::sys::Pool`"),
            ("fn f(_: mio::Token) {}", "`mio`"),
            ("use std::fs;", "`std::fs`"),
        ] {
            for room in PURE {
                found(impurities(&File::new(&format!("src/{room}/x.rs"), bad)), &[part]);
            }
            found(impurities(&File::new("src/engine/mod.rs", bad)), &[]);
        }
    }

    #[test]
    fn find_unsafe() {
        let reasoned = "// SAFETY: it is open.\n// Really.\nlet done = unsafe { call() };";
        let bare = "let a = 1; // SAFETY: not this one\nlet done = unsafe { call() };";
        found(unsafe_without_reason(&File::new("src/sys/net.rs", reasoned)), &[]);
        found(unsafe_without_reason(&File::new("src/sys/net.rs", "pub unsafe fn call() {}")), &[]);
        found(unsafe_without_reason(&File::new("src/sys/net.rs", bare)), &["net.rs:2: `unsafe` without"]);
        found(
            unsafe_without_reason(&File::new("src/relay/mod.rs", reasoned)),
            &["mod.rs:3: `unsafe` outside"],
        );
        let words = "#![deny(unsafe_code)]\n// unsafe\nconst WORD: &str = \"unsafe\";";
        found(unsafe_without_reason(&File::new("src/lib.rs", words)), &[]);
    }

    #[test]
    fn find_leftovers() {
        let left = "fn f() { todo!() }\nfn g() { dbg!(unimplemented!()) }\n#[ignore = \"slow\"]\n// todo!";
        let parts = ["x.rs:1: `todo!`", "x.rs:2: `unimplemented!`", "x.rs:2: `dbg!`", "x.rs:3: `#[ignore`"];
        found(leftovers(&File::new("src/x.rs", left)), &parts);
    }

    #[test]
    fn find_long_files() {
        found(too_long(&File::new("src/x.rs", &"\n".repeat(LINES_MAX))), &[]);
        found(too_long(&File::new("src/x.rs", &"\n".repeat(LINES_MAX + 1))), &["801 lines"]);
    }

    #[test]
    fn find_engines_in_control() {
        let bad = "use crate::engine::Engine;";
        found(control_uses_engine(&File::new("src/control/health.rs", bad)), &["health.rs:1"]);
        found(control_uses_engine(&File::new("src/worker/mod.rs", bad)), &[]);
    }

    #[test]
    fn find_paths_of_a_machine() {
        let [work, home] = ["work", "home"];
        let bad = format!(
            "see /{work}/notes\nlet file = \"/{home}/me\";\nhttps://example.org/{work}/x src/{work}/y"
        );
        found(machine_paths(&File::new("README.md", &bad)), &["README.md:1", "README.md:2"]);
    }

    #[test]
    fn find_tests_that_do_not_exist() {
        let files = [File::new("tests/engines.rs", "fn stuck_client() {}\n// fn stuck_server() {}")];
        let row = |test: &str| {
            File::new("docs/TRAPS.md", &format!("| trap | test |\n|---|---|\n| a `thing` | {test} |\n"))
        };
        found(unknown_tests(&row("`stuck_client`, `tests/engines.rs: stuck_client`"), &files), &[]);
        found(
            unknown_tests(&row("`stuck_client`, `stuck_server`"), &files),
            &["TRAPS.md:3: there is no test `stuck_server`"],
        );
    }
}
