//! `tidegate top` on a real terminal, and where there is none.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

use std::env;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tidegate::control::model::Status;
use tidegate::top;

mod support;

use support::gate::{Config, Gate};
use support::servers::Server;
use support::service::{Home, client, installed};

/// Says to this very program that it is to draw.
const DRAWS: &str = "TIDEGATE_TEST_DRAWS";

/// The test that draws when it is told to: the program that the others start on terminals of theirs.
const DRAWER: &str = "it_draws_on_a_terminal_and_leaves_it_as_it_was";

/// Draws to the end, and ends the program.
fn draw() -> ! {
    let status: Status = serde_json::from_str(include_str!("support/status.json")).unwrap();
    if let Err(error) = top::run(move || Ok(status.clone()), |_, _| Ok(Vec::new())) {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// What draws, on a terminal of its own, which is `script`'s.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    drawn: Vec<u8>,
}

impl Terminal {
    fn start(program: &str) -> Self {
        let mut command = client("script");
        command.args(["-qec", &format!("stty rows 24 cols 80; {program}; stty -a"), "/dev/null"]);
        command.env(DRAWS, "1").env("TERM", "xterm");
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keys, screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        Self { script, keys, screen, drawn: Vec::new() }
    }

    /// Reads on until this was drawn. What is on the screen already is not drawn again.
    fn until(&mut self, text: &str) {
        let mut piece = [0; 4096];
        while !contains(&self.drawn, text.as_bytes()) {
            let got = self.screen.read(&mut piece).unwrap();
            assert!(got > 0, "{text} was not drawn: {}", String::from_utf8_lossy(&self.drawn));
            self.drawn.extend_from_slice(&piece[..got]);
        }
    }

    fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).unwrap();
    }

    /// Everything that was drawn, and what the terminal is then.
    fn end(mut self) -> Vec<u8> {
        self.press("q");
        self.screen.read_to_end(&mut self.drawn).unwrap();
        assert!(self.script.wait().unwrap().success(), "{}", String::from_utf8_lossy(&self.drawn));
        self.drawn
    }
}

#[test]
fn it_draws_on_a_terminal_and_leaves_it_as_it_was() {
    if env::var_os(DRAWS).is_some() {
        draw();
    }
    if !installed(&["script"]) {
        return;
    }
    let this = env::current_exe().unwrap();
    let mut terminal = Terminal::start(&format!("{} --exact {DRAWER} --nocapture", this.display()));
    terminal.until("pg/pg2");
    let drawn = terminal.end();
    for (what, sequence) in
        [("enters", &b"\x1b[?1049h"[..]), ("leaves", b"\x1b[?1049l"), ("shows the cursor", b"\x1b[?25h")]
    {
        assert!(contains(&drawn, sequence), "it never {what}");
    }
    let modes = String::from_utf8_lossy(&drawn);
    let modes = modes.rsplit("1049l").next().unwrap();
    assert!(modes.contains(" icanon") && modes.contains(" echo "), "the terminal is raw still: {modes}");
}

#[test]
fn a_running_process_is_drawn_with_its_connections() {
    if !installed(&["script"]) {
        return;
    }
    let (home, server) = (Home::new(), Server::echo());
    let socket = home.path("admin.sock");
    let admin = format!("socket = \"{}\"\nhttp = \"off\"", socket.display());
    let gate = Gate::start(&Config::new("mio").server(server.address()).table("admin", &admin));
    let client = gate.connect();
    let program = env!("CARGO_BIN_EXE_tidegate");
    let mut terminal = Terminal::start(&format!("{program} top --socket {}", socket.display()));
    terminal.until("p/s0");
    terminal.press("\r");
    terminal.until("server=p/s0");
    terminal.until(&client.address().to_string());
    terminal.end();
}

#[test]
fn nobody_there_is_told_in_words() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tidegate")).args(["top", "--socket", "/nowhere/a.sock"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("nobody listens on /nowhere/a.sock") && said.contains("= help: "), "{said}");
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", DRAWER, "--nocapture"]).env(DRAWS, "1").env("TERM", "xterm");
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("`tidegate ctl status` tells the same once"), "{said}");
}
