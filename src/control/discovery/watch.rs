//! Looking at lists again and again.

mod file;
mod url;

use std::sync::Arc;
use std::time::Duration;

use super::ask::Asker;
use super::etcd::Follower;
use super::parse::with_sample;
use super::{Listed, Look, parse};
use crate::config::ListAt;
use file::File;
use url::Url;

/// The longest that a file is not looked at.
const FILE_REST: Duration = Duration::from_secs(1);

/// Who looks at a list, and remembers what was there.
pub struct Watcher {
    source: Source,
    rest: Duration,
}

enum Source {
    File(File),
    Url(Box<Url>),
    Etcd(Box<Follower>),
}

impl Watcher {
    /// Has not looked yet; will rest for `poll` between two looks, or for less. Hosts are looked up by `asker`.
    #[must_use]
    pub fn new(at: &ListAt, poll: Duration, asker: &Arc<Asker>) -> Self {
        let asker = Arc::clone(asker);
        match at {
            ListAt::File(path) => {
                Self { source: Source::File(File::new(path.clone())), rest: poll.min(FILE_REST) }
            }
            ListAt::Url(at) => {
                Self { source: Source::Url(Box::new(Url::new(at.clone(), poll, asker))), rest: poll }
            }
            // It rests in a look.
            ListAt::Etcd(etcd) => Self {
                source: Source::Etcd(Box::new(Follower::new(etcd, poll, asker))),
                rest: Duration::ZERO,
            },
        }
    }

    /// What is there; the first time it is [`Look::Same`] only if nothing can be said yet. `known` is the last good list.
    pub async fn look(&mut self, known: &[Listed]) -> Look {
        match &mut self.source {
            Source::File(file) => file.look().await,
            Source::Url(url) => url.look().await,
            Source::Etcd(follower) => follower.look(known).await,
        }
    }

    /// How many servers the list would have if what is said of them was right.
    #[must_use]
    pub fn unfit(&self) -> usize {
        match &self.source {
            Source::File(_) | Source::Url(_) => 0,
            Source::Etcd(follower) => follower.unfit(),
        }
    }

    /// How long to wait until the next look, a tenth more or less, as `random` says: not everybody asks at the same moment.
    #[must_use]
    pub fn rest(&self, random: u64) -> Duration {
        let thousandths = 900 + u32::try_from(random % 201).unwrap_or(0);
        self.rest * thousandths / 1000
    }
}

/// The bytes that were there the last time, and what came of them: the same bytes mean the same.
#[derive(Default)]
struct Seen(Option<(Vec<u8>, Look)>);

impl Seen {
    fn bytes(&self) -> Option<&[u8]> {
        self.0.as_ref().map(|(bytes, _)| bytes.as_slice())
    }

    fn judge(&mut self, bytes: Vec<u8>) -> Look {
        match &self.0 {
            Some((before, Look::Taken(_))) if *before == bytes => Look::Same,
            Some((before, look)) if *before == bytes => look.clone(),
            _ => {
                let look =
                    parse(&bytes).map_or_else(|error| Look::Refused(with_sample(error, &bytes)), Look::Taken);
                self.0 = Some((bytes, look.clone()));
                look
            }
        }
    }
}
