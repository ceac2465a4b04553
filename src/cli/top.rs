//! `tidegate top`: the state of a running process, drawn in the terminal.

use std::process::ExitCode;

use clap::Args;

use super::ask::Whose;
use crate::control::select::Query;
use crate::top;

const HELP: &str = "\
Keys: q quits, tab and arrows move, enter shows the connections of a listener or server, c all of them,
/ filters, s sorts, p pauses, ? tells all keys.

Examples:
  tidegate top
  tidegate top --socket /run/x.sock             another process on this host

Exit codes: 0 success, 1 the process cannot be asked at all or there is no terminal, 2 the command line is wrong.";

/// `tidegate top`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Top {
    #[command(flatten)]
    whose: Whose,
}

impl Top {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        // One for each function: a client waits for one answer at a time.
        let (status, connections) = match (self.whose.client()?, self.whose.client()?) {
            (Ok(one), Ok(other)) => (one, other),
            (Err(code), _) | (_, Err(code)) => return Ok(code),
        };
        // Nobody there is told before the terminal is drawn on, where it could be read only until the end.
        status.status()?;
        top::run(
            move || Ok(status.status()?),
            move |filter, most| {
                let query = Query { filter: filter.clone(), paths: false, limit: Some(most as u64) };
                let mut found = Vec::new();
                connections.connections(&query, |line| {
                    found.push(serde_json::from_str(line)?);
                    Ok(true)
                })?;
                Ok(found)
            },
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
