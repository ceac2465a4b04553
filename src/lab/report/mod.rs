//! The report of a run: one HTML file that needs nothing else, the results as JSON beside it, and a table for the
//! terminal.

mod appendix;
mod charts;
pub mod findings;
mod html;
mod palette;
mod sections;
mod table;
pub mod verdict;
mod words;

pub(in crate::lab) use table::wrap;
pub(in crate::lab) use words::{counted, ratio};

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::results::Results;
use findings::Findings;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The report for people.
    pub report: PathBuf,
    /// The results for programs, and for a comparison with another run.
    pub results: PathBuf,
}

/// Writes `report.html` and `results.json` into `directory`, which is made if it is not there. A reader sees each of
/// them whole, the old or the new.
///
/// # Errors
/// What the file system says.
pub fn write(results: &Results, directory: &Path) -> anyhow::Result<Written> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let written = Written { report: directory.join("report.html"), results: directory.join("results.json") };
    let json = serde_json::to_string_pretty(results).context("results that JSON cannot express")?;
    replace(&written.results, &json)?;
    replace(&written.report, &html::page(&Findings::of(results)))?;
    Ok(written)
}

/// Writes beside the file, then renames.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The report for a terminal, in at most 110 columns: a table for each workload, then the verdicts.
#[must_use]
pub fn terminal(results: &Results) -> String {
    table::text(&Findings::of(results))
}
