//! Looking at lists again and again.

mod file;

use std::time::Duration;

use super::Look;
use crate::config::ListAt;
use file::File;

/// The longest that a file is not looked at.
const FILE_REST: Duration = Duration::from_secs(1);

/// Who looks at a list, and remembers what was there.
pub struct Watcher {
    source: Source,
    rest: Duration,
}

enum Source {
    File(File),
}

impl Watcher {
    /// Has not looked yet; will rest for `poll` between two looks, or for less.
    #[must_use]
    pub fn new(at: &ListAt, poll: Duration) -> Self {
        match at {
            ListAt::File(path) => {
                Self { source: Source::File(File::new(path.clone())), rest: poll.min(FILE_REST) }
            }
        }
    }

    /// What is there; the first time it is [`Look::Same`] only if nothing can be said yet.
    pub async fn look(&mut self) -> Look {
        match &mut self.source {
            Source::File(file) => file.look().await,
        }
    }

    /// How long to wait until the next look.
    #[must_use]
    pub fn rest(&self) -> Duration {
        self.rest
    }
}
