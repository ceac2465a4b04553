//! What the commands share that ask a running process: where it is, and what an answer means for the exit code.

use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::{DEFAULT_FILE, REFUSED};
use crate::config::{self, Admin};
use crate::control::client::{Client, Fault};

/// Where the process is asked.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The control socket [default: that of the configuration, or /run/tidegate/admin.sock]
    #[arg(long, value_name = "PATH", global = true)]
    pub(super) socket: Option<PathBuf>,
}

/// The configuration of the process that is asked.
#[derive(Debug, Args)]
pub(super) struct Whose {
    /// The configuration of the running process, which names its control socket; nothing else of it is read
    #[arg(short, long = "config", value_name = "FILE", global = true, conflicts_with = "socket")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: Where,
}

impl Whose {
    /// Whom to ask; the exit code, when the configuration has errors.
    pub(super) fn client(&self) -> anyhow::Result<Result<Client, ExitCode>> {
        let socket = match &self.config {
            Some(file) => match config::admin(file) {
                Ok(admin) => named(file, admin)?,
                Err(report) => {
                    let code = super::refuse(&report);
                    let _ = writeln!(stderr(), "{}", unknown(file));
                    return Ok(Err(code));
                }
            },
            None => self.place.socket.clone().unwrap_or_else(usual),
        };
        client(&socket).map(Ok)
    }
}

/// The control socket that a configuration names.
fn named(file: &Path, admin: Option<Admin>) -> anyhow::Result<PathBuf> {
    let file = file.display();
    let admin = admin.with_context(|| {
        format!("{file} has no table [admin], so nobody can be asked\n  = help: add a line `[admin]` to it, and restart")
    })?;
    admin.socket.with_context(|| format!("{file} has socket = \"off\" in [admin]"))
}

/// The control socket of the usual configuration, if that names one. Says so where that cannot be read.
pub(super) fn usual() -> PathBuf {
    let file = Path::new(DEFAULT_FILE);
    let admin = config::admin(file).unwrap_or_else(|_| {
        if file.exists() {
            let _ = writeln!(stderr(), "{}; {} is tried", unknown(file), Admin::SOCKET);
        }
        None
    });
    admin.and_then(|admin| admin.socket).unwrap_or_else(|| Admin::SOCKET.into())
}

/// That a configuration cannot be asked for the control socket.
fn unknown(file: &Path) -> String {
    format!("tidegate: {} does not say where the control socket is: name it with --socket", file.display())
}

pub(super) fn client(socket: &Path) -> anyhow::Result<Client> {
    Client::new(socket).context("cannot wait for an answer")
}

/// The exit code for what came of it. A refusal has one of its own.
pub(super) fn end(result: Result<(), Fault>) -> anyhow::Result<ExitCode> {
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Fault::Refused(refusal)) => {
            let _ = writeln!(stderr(), "tidegate: {refusal}");
            Ok(ExitCode::from(REFUSED))
        }
        Err(fault) => Err(fault.into()),
    }
}
