//! What can be told of a start beforehand, without binding or changing anything.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::options;
use crate::admission;
use crate::config::{self, Config, LogOutput, Problem};
use crate::control::serve;
use crate::sys;
use crate::sys::user::{self, User, UserError};

/// What is no error in a configuration, and hardly meant, in words; and what this machine makes of it.
#[must_use]
pub fn oddities(config: &Config) -> Vec<String> {
    let mut all = config::oddities(config);
    all.extend(admission::oddities(config));
    all.extend(sys::longest_backlog().map_or_else(Vec::new, |most| cut_backlogs(config, most)));
    all.extend(config.admin.iter().flat_map(serve::oddities));
    all
}

/// Listeners whose queue the kernel cuts to `most`, which it does not tell whoever asks for more.
fn cut_backlogs(config: &Config, most: u64) -> Vec<String> {
    let longer = config.listeners.iter().filter_map(|listener| {
        let backlog = listener.backlog.filter(|backlog| u64::from(backlog.get()) > most)?;
        Some(format!(
            "listener {}: `backlog` is {backlog}, and the kernel cuts it to {most}: raise the sysctl net.core.somaxconn, or \
             write backlog = \"auto\", which is always the most that there is",
            listener.name
        ))
    });
    longer.collect()
}

/// What would hinder a start on this machine, as problems of `file`. Not looked at is what only the start can tell: addresses
/// that are taken, engines, descriptors, and what others than root may.
#[must_use]
pub fn hindrances(config: &Config, file: &str) -> Vec<Problem> {
    let mut said = Vec::new();
    let needs_raw = options::need_net_raw(config);
    let user = config.process.user.as_deref().map(|name| User::find(name, needs_raw)).transpose();
    if let Err(unknown @ UserError::Unknown(_)) = &user {
        said.push(unknown.to_string());
    }
    let tried =
        || options::refused(config, |error| user::is_root() || error.kind() != ErrorKind::PermissionDenied);
    let refused = match user {
        Ok(Some(user)) if user::is_root() => {
            user.try_out(tried).map_err(|error| said.push(error.to_string())).ok().flatten()
        }
        _ => tried(),
    };
    said.extend(refused.map(|refused| refused.to_string()));
    said.extend(config.admin.as_ref().and_then(serve::token_fault).map(|fault| fault.to_string()));
    let outputs =
        [("log.output", Some(&config.log.output)), ("log.access.output", config.access.output.as_ref())];
    said.extend(outputs.into_iter().filter_map(|(key, output)| no_place(key, output?)));
    said.iter().flat_map(|text| problems(text, file)).collect()
}

/// Why there can be no such file of a log.
fn no_place(key: &str, output: &LogOutput) -> Option<String> {
    let LogOutput::File(path) = output else { return None };
    let said = |what: String, help: &str| Some(format!("{key} = \"{output}\": {what}\n  = help: {help}"));
    if path.is_dir() {
        return said("that is a folder".to_owned(), "name a file in it");
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""))?;
    match fs::metadata(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            said(format!("there is no folder {}", folder.display()), "make it, or name a file elsewhere")
        }
        _ => None,
    }
}

/// What errors of a start say: lines, some of them with a line of help behind them.
fn problems(text: &str, file: &str) -> Vec<Problem> {
    let mut all: Vec<Problem> = Vec::new();
    for line in text.lines() {
        if let (Some(help), Some(problem)) = (line.trim_start().strip_prefix("= help: "), all.last_mut()) {
            problem.help = Some(help.to_owned());
            continue;
        }
        all.push(Problem { file: file.to_owned(), place: None, message: line.to_owned(), help: None });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_that_the_kernel_cuts_is_told_of() {
        let with = |backlog: &str| {
            let listener =
                format!("[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\nbacklog = {backlog}\n");
            let pool = "[pool.p]\nserver = [{ name = \"a\", addr = \"127.0.0.1:2\" }]";
            let config =
                config::parse(&(listener + pool), "test").unwrap_or_else(|report| panic!("{report}"));
            cut_backlogs(&config, 4096)
        };
        let said = "listener l: `backlog` is 4097, and the kernel cuts it to 4096: raise the sysctl net.core.somaxconn, or \
            write backlog = \"auto\", which is always the most that there is";
        assert_eq!(with("4097"), [said]);
        assert_eq!(with("4096"), [""; 0]);
        assert_eq!(with("\"auto\""), [""; 0]);
    }
}
