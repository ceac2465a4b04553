//! What tells files from what they were a moment ago.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// A file at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: PathBuf,
    found: Option<(SystemTime, u64)>,
}

/// These files as they are now.
pub(super) fn of(files: Vec<PathBuf>) -> Vec<Stamp> {
    of_with(files, &[])
}

/// The same files as they are now.
pub(super) fn again(stamps: &[Stamp]) -> Vec<Stamp> {
    of(stamps.iter().map(|stamp| stamp.file.clone()).collect())
}

/// These files; those that are known as they were, the others as they are now.
pub(super) fn of_with(files: Vec<PathBuf>, known: &[Stamp]) -> Vec<Stamp> {
    let stamp = |file: PathBuf| {
        let before = known.iter().find(|stamp| stamp.file == file);
        before.cloned().unwrap_or_else(|| Stamp::now(file))
    };
    files.into_iter().map(stamp).collect()
}

impl Stamp {
    fn now(file: PathBuf) -> Self {
        let found = fs::metadata(&file).ok();
        let found = found.and_then(|found| Some((found.modified().ok()?, found.len())));
        Self { file, found }
    }
}
