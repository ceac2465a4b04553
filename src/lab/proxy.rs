//! The proxy as the lab starts it: as always, with its system calls counted or written down.

use std::collections::BTreeMap;
use std::io::{BufRead, stdin};
use std::thread;
use std::time::Duration;

use super::results::Count;
use super::say_line;
use crate::config::Config;
use crate::process;
use crate::sys::{calls, signals};

/// Asks the proxy for what was counted so far: one line of JSON, [`Count`]s by name.
pub(super) const CALLS: &str = "calls";
/// Asks for what was written down so far: one line of JSON, [`calls::Record`]s.
pub(super) const RECORDS: &str = "records";

/// When a stop is asked for again.
const SECOND_STOP: Duration = Duration::from_millis(50);

/// Serves a configuration until the standard input ends or a signal comes. With `records`, calls are written down.
///
/// # Errors
/// As of [`process::run`].
pub fn serve(config: &Config, records: bool) -> anyhow::Result<()> {
    if records {
        calls::start_recording();
    } else {
        calls::start_counting();
    }
    // Its own calls are not made by way of `sys`, and so are none of the proxy's.
    thread::Builder::new().name("answers".to_owned()).spawn(answer)?;
    Ok(process::run(config.clone(), None)?)
}

fn answer() {
    for line in stdin().lock().lines().map_while(Result::ok) {
        let answered = match line.as_str() {
            CALLS => say_line(&counts()),
            RECORDS => say_line(&calls::records()),
            _ => Ok(()),
        };
        if answered.is_err() {
            break;
        }
    }
    // The second one is for the connections that are left; two at once would be one.
    let _ = signals::request_stop();
    thread::sleep(SECOND_STOP);
    let _ = signals::request_stop();
}

/// Calls that were made or would have been, by name.
fn counts() -> BTreeMap<&'static str, Count> {
    let count = |[calls, failed, bytes]: [u64; 3]| Count { calls, failed, bytes };
    calls::totals().into_iter().map(|(name, numbers)| (name, count(numbers))).collect()
}
