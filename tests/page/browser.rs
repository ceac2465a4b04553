//! A real browser, driven as a person would: pages are opened, keys are pressed, what is shown is read. Chromium is
//! told what to do over two pipes (its option `--remote-debugging-pipe`), in JSON with a zero byte behind each message.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::service::client;

/// A browser on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a reader would stumble over, measured in the page.
const LOOK: &str = include_str!("../support/look.js");

pub(crate) struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    /// Errors and warnings of pages, as they were told.
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts it with one empty page.
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // Chromium reads from descriptor 3 and writes to 4.
        let mut command = client("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "sh", "chromium"]);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
        command.args(["--remote-debugging-pipe", "--no-first-run"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        // What it leaves behind when it is killed goes with its profile.
        command.env("TMPDIR", profile.path());
        // Times are shown as they are where the reader is.
        command.env("TZ", "UTC");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let commands = process.stdin.take().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in out.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("messages are JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let complaints = Vec::new();
        let mut browser =
            Self { process, commands, messages, session: None, last_id: 0, complaints, _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for part in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{part}.enable"), json!({}));
        }
        browser
    }

    /// Tells the browser to do something, and gives its answer.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method});
        message["params"] = parameters;
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer = self.messages.recv_timeout(PATIENCE).expect("the browser answers");
            if answer["id"] == self.last_id {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    /// Keeps what a page has complained of.
    fn note(&mut self, message: &Value) {
        let what = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => &what["exceptionDetails"]["exception"]["description"],
            Some("Log.entryAdded")
                if ["error", "warning"].contains(&what["entry"]["level"].as_str().unwrap()) =>
            {
                &what["entry"]["text"]
            }
            Some("Runtime.consoleAPICalled") => &what["args"],
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }

    /// What pages have complained of since this was last asked: exceptions, failed requests, what the policy forbids.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // Whatever was told before this answer is in by then.
        self.value("1");
        std::mem::take(&mut self.complaints)
    }

    pub(crate) fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({"url": address}));
    }

    /// The size of the window, as a phone or a screen has it.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// `light` or `dark`.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// The value of an expression in the page; a promise is waited for.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let what = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", what);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].take()
    }

    /// The text of the first element that fits, as it is shown.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let shown = self.value(&format!("document.querySelector({})?.innerText ?? null", json!(selector)));
        shown.as_str().unwrap_or_else(|| panic!("there is no {selector}")).to_owned()
    }

    /// Waits until an expression is true in the page.
    pub(crate) fn until(&mut self, expression: &str) {
        let began = Instant::now();
        while self.value(&format!("Boolean({expression})")) != true {
            if began.elapsed() > PATIENCE {
                let page = self.text("body");
                panic!(
                    "{expression} did not become true. Complaints: {:?}. The page:\n{page}",
                    self.complaints
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key: `Tab`, `Enter`, ` `, `Escape`, `ArrowDown`.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            " " => ("Space", 32, " "),
            "Escape" => ("Escape", 27, ""),
            "ArrowDown" => ("ArrowDown", 40, ""),
            _ => panic!("no such key: {key}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let what = json!({"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number, "text": text});
            self.call("Input.dispatchKeyEvent", what);
        }
    }

    /// Presses Tab until the focus is on an element that fits; it must be reached.
    pub(crate) fn tab_to(&mut self, selector: &str) {
        for _ in 0..200 {
            if self.value(&format!("document.activeElement?.matches({})", json!(selector))) == true {
                return;
            }
            self.press("Tab");
        }
        panic!("{selector} is not reached by the Tab key");
    }

    /// Types a text where the focus is, in place of what stood there.
    pub(crate) fn type_over(&mut self, text: &str) {
        self.value("document.activeElement.select()");
        self.call("Input.insertText", json!({"text": text}));
    }

    /// What a reader would stumble over.
    pub(crate) fn look(&mut self) -> Value {
        self.value(&format!("(() => {{ {LOOK} return look(window); }})()"))
    }

    /// The role of everything that a screen reader is told of.
    pub(crate) fn roles(&mut self) -> Vec<String> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let told = tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] == false);
        told.map(|node| node["role"]["value"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Leaves a picture in a file: of the whole page, or of what is in the window.
    pub(crate) fn picture(&mut self, file: &Path, whole: bool) {
        let picture =
            self.call("Page.captureScreenshot", json!({"captureBeyondViewport": whole, "format": "png"}));
        fs::write(file, base64(picture["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

/// The bytes of a text in base64 (RFC 4648).
fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let six = LETTERS.iter().position(|known| *known == letter).expect("it is base64");
        bits = bits << 6 | u32::try_from(six).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}
