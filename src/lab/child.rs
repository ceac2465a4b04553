//! Processes that the lab starts: pinned to a CPU, ended with it, and heard line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::de::DeserializeOwned;

use super::measure::tree;
use super::now;
use crate::sys::{self, signals};

/// How long a process may take to end when it is asked to.
const END: Duration = Duration::from_millis(1_500);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// Becomes `program`, kept on one CPU and ended with the process that started this one.
///
/// # Errors
/// The operating system's; otherwise it does not return.
pub fn exec_here(cpu: u32, program: &Path, arguments: &[String]) -> anyhow::Result<std::convert::Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    sys::pin_to(cpu).with_context(|| format!("cannot use CPU {cpu}"))?;
    Err(Command::new(program).args(arguments).exec())
        .with_context(|| format!("cannot start {}", program.display()))
}

/// A process of the lab; dropping ends it and all that it has started.
pub(super) struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Where its standard error goes; open, so that it can be read when the directory is gone.
    errors: File,
}

impl Process {
    /// Starts `command` on one CPU; what it says on its standard error is kept in `directory`.
    pub(super) fn start(name: &str, command: &Command, cpu: u32, directory: &Path) -> anyhow::Result<Self> {
        let errors = directory.join(format!("{name}.stderr"));
        let (errors, its_errors) = (File::create(&errors)?, File::open(&errors)?);
        let mut here = Command::new(std::env::current_exe()?);
        here.args(["lab-start", &cpu.to_string(), "--"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => here.env(key, value),
                None => here.env_remove(key),
            };
        }
        here.current_dir(command.get_current_dir().unwrap_or(directory));
        here.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child =
            signals::keep_from_terminal(&mut here).spawn().with_context(|| format!("cannot start {name}"))?;
        let (sender, lines) = channel();
        let output = child.stdout.take().context("its standard output")?;
        // It ends with the process's output, and is not waited for.
        thread::Builder::new().name(format!("hears {name}")).spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        })?;
        let input = child.stdin.take();
        Ok(Self { name: name.to_owned(), child, input, lines, errors: its_errors })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its next line of JSON.
    pub(super) fn hear<T: DeserializeOwned>(&mut self, within: Duration) -> anyhow::Result<T> {
        match self.lines.recv_timeout(within) {
            Ok(line) => serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.name)),
            Err(_) => {
                thread::sleep(LOOK);
                match self.ended() {
                    Some(status) => bail!("{} ended: {}", self.name, in_words(status)),
                    None => bail!("{} said nothing for {within:?}", self.name),
                }
            }
        }
    }

    /// Writes it a line.
    pub(super) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().ok_or_else(|| anyhow!("{} hears no more", self.name))?;
        writeln!(input, "{line}").with_context(|| format!("{} does not listen", self.name))
    }

    /// Ends its input, by which those of this program end.
    pub(super) fn end_input(&mut self) {
        self.input = None;
    }

    /// What it has said on its standard error since this was asked last.
    pub(super) fn said(&self) -> String {
        let mut said = Vec::new();
        let _ = (&self.errors).read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = if self.ended().is_none() { tree(self.pid()) } else { Vec::new() };
        self.end_input();
        if self.ended().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        let end = now() + END;
        while self.ended().is_none() {
            if now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            thread::sleep(LOOK);
        }
        // What it has left behind, which is ours as well.
        for pid in family.into_iter().skip(1).filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// How a process ended: `exit code 1`, `signal 9`.
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
