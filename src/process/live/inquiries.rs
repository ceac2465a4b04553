//! What is asked for again and again: names of servers, and lists of them. Each has a task that asks, and what has come of
//! it so far.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::sources::News;
use super::task::Task;

/// How one of them is asked for.
pub(super) trait Inquiry: Sized + Send + 'static {
    /// What tells it from others.
    type Key: Clone + Ord + Send + Sync;
    /// What has come of it so far.
    type Known: Clone + Default + Send + Sync;
    /// How everybody is told.
    const NEWS: fn(Heard<Self>) -> News;

    /// Asks once, and takes note of the answer; how long to wait until the next time.
    fn ask(&mut self, known: &mut Self::Known) -> impl Future<Output = Duration> + Send;

    /// Whether what has come of the one is known of the other, too.
    fn is_like(one: &Self::Key, other: &Self::Key) -> bool {
        one == other
    }
}

/// All of one kind.
pub(super) struct Inquiries<I: Inquiry> {
    all: BTreeMap<I::Key, Entry<I::Known>>,
    told: UnboundedSender<News>,
    /// Tasks that were begun so far: the next one's number.
    begun: u64,
}

struct Entry<K> {
    number: u64,
    /// Asks.
    _task: Task,
    known: K,
}

/// What was known of each at a moment.
pub(super) type Memory<I> = BTreeMap<<I as Inquiry>::Key, <I as Inquiry>::Known>;

/// Somebody was asked.
pub(super) struct Heard<I: Inquiry> {
    number: u64,
    key: I::Key,
    known: I::Known,
}

impl<I: Inquiry> Inquiries<I> {
    /// None yet; `told` hears of every answer.
    pub(super) fn new(told: UnboundedSender<News>) -> Self {
        Self { all: BTreeMap::new(), told, begun: 0 }
    }

    /// Asks for these, and for no others. What is known stays known, and what is remembered is known again; what is new is
    /// waited for, but for `patience` at most.
    pub(super) async fn adopt(&mut self, all: BTreeMap<I::Key, I>, memory: &Memory<I>, patience: Duration) {
        let before = self.memory();
        self.all.clear();
        let mut new = Vec::new();
        for (key, inquiry) in all {
            self.begun += 1;
            let (tell, told) = oneshot::channel();
            let known = before.iter().chain(memory).find(|(old, _)| I::is_like(old, &key));
            let known = known.map(|(_, known)| known.clone());
            if known.is_none() {
                new.push(told);
            }
            let known = known.unwrap_or_default();
            let heard = Heard { number: self.begun, key: key.clone(), known: known.clone() };
            let task = Task::new(ask_on(inquiry, heard, tell, self.told.clone()));
            self.all.insert(key, Entry { number: self.begun, _task: task, known });
        }
        let until = Instant::now() + patience;
        for mut told in new {
            let first = timeout_at(until, &mut told).await;
            // Who comes later tells everybody; who came just now is heard yet.
            told.close();
            if let Some(heard) = first.ok().map_or_else(|| told.try_recv().ok(), Result::ok) {
                self.note(heard);
            }
        }
    }

    /// Takes note of an answer: about whom, and what was known before; none if it is not asked for any more.
    pub(super) fn note(&mut self, Heard { number, key, known }: Heard<I>) -> Option<(I::Key, I::Known)> {
        // One that was given up may have had its last word on the way.
        let entry = self.all.get_mut(&key).filter(|entry| entry.number == number)?;
        let was = std::mem::replace(&mut entry.known, known);
        Some((key, was))
    }

    /// What is known of one.
    pub(super) fn of(&self, key: &I::Key) -> Option<&I::Known> {
        self.all.get(key).map(|entry| &entry.known)
    }

    /// What is known now, to be remembered.
    pub(super) fn memory(&self) -> Memory<I> {
        self.all().map(|(key, known)| (key.clone(), known.clone())).collect()
    }

    /// What is known of each.
    pub(super) fn all(&self) -> impl Iterator<Item = (&I::Key, &I::Known)> {
        self.all.iter().map(|(key, entry)| (key, &entry.known))
    }
}

/// Asks again and again. The first answer goes to `first`, if somebody waits there.
async fn ask_on<I: Inquiry>(
    mut inquiry: I,
    Heard { number, key, mut known }: Heard<I>,
    first: oneshot::Sender<Heard<I>>,
    told: UnboundedSender<News>,
) {
    let mut first = Some(first);
    loop {
        let wait = inquiry.ask(&mut known).await;
        let heard = Heard { number, key: key.clone(), known: known.clone() };
        let unheard = match first.take() {
            Some(first) => first.send(heard).err(),
            None => Some(heard),
        };
        if unheard.is_some_and(|heard| told.send(I::NEWS(heard)).is_err()) {
            return;
        }
        sleep(wait).await;
    }
}
