//! Names of servers, looked up again and again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use super::sources::{FIRST_MOST, News};
use crate::config::{Config, Dns, DnsName};
use crate::control::discovery::ask::Asker;
use crate::control::discovery::{Answer, Found, MOST, Name, Outcome};
use crate::sys::Clock;
use crate::tick::Tick;

/// Lookups that are under way at a time; the others wait for their turn. Their descriptors are of those that the process
/// keeps free.
const AT_A_TIME: usize = 8;

/// All names of the configuration, and the lookups that go on.
pub(super) struct Names {
    known: BTreeMap<DnsName, Known>,
    told: UnboundedSender<News>,
    /// Lookups that were begun so far: the next one's number.
    begun: u64,
}

/// A name that is looked up.
pub(super) struct Known {
    number: u64,
    task: AbortHandle,
    pub(super) name: Name,
    /// When it is looked up again.
    pub(super) next: Tick,
}

/// A lookup has ended.
pub(super) struct Looked {
    number: u64,
    of: DnsName,
    name: Name,
    next: Tick,
}

/// How names are looked up.
#[derive(Clone)]
struct Manner {
    asker: Arc<Asker>,
    turns: Arc<Semaphore>,
    rules: Dns,
    clock: Clock,
}

impl Manner {
    async fn ask(&self, name: &DnsName) -> Answer {
        let _turn = self.turns.acquire().await;
        self.asker.ask(name).await
    }
}

impl Names {
    /// None yet; `told` hears of every lookup.
    pub(super) fn new(told: UnboundedSender<News>) -> Self {
        Self { known: BTreeMap::new(), told, begun: 0 }
    }

    /// Looks up the names of this configuration, and no others. What is known stays known; names that are new are waited
    /// for, but not for long.
    pub(super) async fn adopt(&mut self, file: &Config, clock: Clock, asker: &Arc<Asker>) {
        let mut before = std::mem::take(&mut self.known);
        before.values().for_each(|known| known.task.abort());
        let all = file.pools.iter().flat_map(|pool| &pool.named).map(|server| &server.addr);
        let all: HashSet<&DnsName> = all.collect();
        if all.is_empty() {
            return;
        }
        let manner = Manner {
            asker: Arc::clone(asker),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            rules: file.dns.clone(),
            clock,
        };
        let new = all.iter().filter(|name| !before.contains_key(**name)).map(|name| (*name).clone());
        let mut first = first_answers(&manner, new.collect()).await;
        for of in all {
            let mut name = before.remove(of).map(|known| known.name).unwrap_or_default();
            let mut wait = Duration::ZERO;
            if let Some(answer) = first.remove(of) {
                wait = name.note(answer, &file.dns, clock.now());
                report(of, None, &name, &file.dns);
            }
            self.begun += 1;
            let next = clock.now().after(wait);
            let (number, told, manner) = (self.begun, self.told.clone(), manner.clone());
            let lookups =
                look_up(Looked { number, of: of.clone(), name: name.clone(), next }, wait, manner, told);
            let task = tokio::spawn(lookups).abort_handle();
            self.known.insert(of.clone(), Known { number, task, name, next });
        }
    }

    /// The servers that a name stands for, as far as is known.
    pub(super) fn of(&self, name: &DnsName) -> &[Found] {
        self.known.get(name).map_or(&[], |known| known.name.servers())
    }

    /// Takes note of a lookup; whether the name stands for others than before.
    pub(super) fn note(&mut self, looked: Looked, rules: &Dns) -> bool {
        let Looked { number, of, name, next } = looked;
        // One that was given up may have had its last word on the way.
        let Some(known) = self.known.get_mut(&of).filter(|known| known.number == number) else {
            return false;
        };
        known.next = next;
        let was = std::mem::replace(&mut known.name, name);
        report(&of, Some(&was), &known.name, rules);
        was.servers() != known.name.servers()
    }

    /// Each name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&DnsName, &Known)> {
        self.known.iter()
    }
}

/// The answers that come in time.
async fn first_answers(manner: &Manner, names: Vec<DnsName>) -> BTreeMap<DnsName, Answer> {
    let until = Instant::now() + manner.rules.timeout.min(FIRST_MOST);
    let mut under_way = JoinSet::new();
    for name in names {
        let manner = manner.clone();
        under_way.spawn(async move {
            let answer = manner.ask(&name).await;
            (name, answer)
        });
    }
    let mut answers = BTreeMap::new();
    while let Ok(Some(Ok((name, answer)))) = timeout_at(until, under_way.join_next()).await {
        answers.insert(name, answer);
    }
    answers
}

/// Looks a name up again and again, for the first time after `wait`.
async fn look_up(looked: Looked, mut wait: Duration, manner: Manner, told: UnboundedSender<News>) {
    let Looked { number, of, mut name, .. } = looked;
    loop {
        sleep(wait).await;
        let answer = manner.ask(&of).await;
        let now = manner.clock.now();
        wait = name.note(answer, &manner.rules, now);
        let looked = Looked { number, of: of.clone(), name: name.clone(), next: now.after(wait) };
        if told.send(News::Name(looked)).is_err() {
            return;
        }
    }
}

/// Tells of what is not as it was: of a failure once, and of its end.
fn report(of: &DnsName, was: Option<&Name>, is: &Name, rules: &Dns) {
    if was.is_none_or(|was| was.cut() == 0) && is.cut() > 0 {
        log::warn!("{of} stands for {} servers, and {MOST} are used", is.cut() + MOST);
    }
    let before = was.and_then(Name::last).map(|(outcome, _)| outcome);
    let Some((outcome, why)) = is.last() else { return };
    if before == Some(outcome) {
        return;
    }
    let (why, count) = (why.unwrap_or_default(), is.servers().len());
    match outcome {
        Outcome::Found if before.is_some() => log::info!("{of} is found again"),
        Outcome::Found => {}
        Outcome::Failed if count > 0 => {
            log::warn!("{of} cannot be looked up: {why}; its {count} servers stay");
        }
        Outcome::Missing if count > 0 => {
            log::warn!("{of}: {why}; its {count} servers stay for {:?}", rules.hold);
        }
        Outcome::Failed | Outcome::Missing => log::warn!("{of} has no servers: {why}"),
    }
}
