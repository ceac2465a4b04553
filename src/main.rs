//! The `tidegate` program: parses the command line, calls the command, and makes its end an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use tidegate::cli::Cli;

fn main() -> ExitCode {
    match Cli::read().execute() {
        Ok(code) => code,
        Err(error) => {
            // With standard error gone there is nobody left to tell; the exit code still does.
            let _ = writeln!(io::stderr(), "tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
