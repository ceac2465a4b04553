//! Servers that register in etcd (v3), under a prefix: read whole, then watched from that revision on.
//!
//! A watch that falls silent looks like one with nothing to tell. So beside it the prefix is read whole again and again, from
//! the same member: one that has lost its cluster does not answer that, and a change that the watch should have told long ago
//! shows that it is dead. Whatever goes wrong, the next member is asked, from the beginning.

mod registration;
mod reply;
mod wire;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::ask::Asker;
use super::parse::with_sample;
use super::{Listed, Look};
use crate::config::Etcd;
use crate::sys::input::open_to_read;
pub use registration::registration;
pub use reply::{MOST_KEYS, MOST_VALUE, Registry};
use wire::{Files, Member, Reply};

/// How long a member may take for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a watch may take to tell what is known already.
const LATE: Duration = Duration::from_secs(1);

/// News gather for so long, so that many registrations that change at once are looked through once.
const GATHER: Duration = Duration::from_millis(50);

/// Bytes of a password that are read at most.
const MOST_PASSWORD: u64 = 4 << 10;

/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Members that do not answer are not told of more often than this while another one does.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// Bad registrations that are told of at a time.
const MOST_TOLD: usize = 5;

/// Follows what is registered.
pub struct Follower {
    etcd: Arc<Etcd>,
    files: Arc<Files>,
    asker: Arc<Asker>,
    /// How often what is in effect is confirmed.
    poll: Duration,
    session: Option<Session>,
    /// Whose turn it is, of the endpoints.
    turn: usize,
    /// In a row.
    failures: u32,
    /// Registrations that are none, and why.
    unfit: BTreeMap<String, String>,
    told_at: Option<Instant>,
}

/// A member that is followed.
struct Session {
    member: Member,
    registry: Registry,
    watch: Reply,
    /// When the whole is read again.
    due: Instant,
    /// The revision that the watch had come to when it turned out to have something to tell.
    behind_at: Option<i64>,
}

impl Follower {
    /// Nobody was asked yet; hosts are looked up by `asker`. What is in effect will be confirmed every `poll`.
    #[must_use]
    pub fn new(etcd: &Etcd, poll: Duration, asker: Arc<Asker>) -> Self {
        Self {
            etcd: Arc::new(etcd.clone()),
            files: Arc::default(),
            asker,
            poll,
            session: None,
            turn: 0,
            failures: 0,
            unfit: BTreeMap::new(),
            told_at: None,
        }
    }

    /// What is registered, when that has changed or is confirmed. It has failed when the member that is followed does, and
    /// then when no member answers. A registration that has become none is what it was when that was `known`.
    pub async fn look(&mut self, known: &[Listed]) -> Look {
        if let Some(session) = &mut self.session {
            return match session.next(self.poll).await {
                Ok(is_news) => {
                    if !is_news {
                        self.failures = 0;
                    }
                    self.listed(known)
                }
                Err(why) => Look::Failed(self.give_up(&why)),
            };
        }
        sleep(pause(self.failures, self.poll)).await;
        let mut whys = Vec::new();
        for _ in 0..self.etcd.endpoints.len() {
            match self.begin().await {
                Ok(session) => {
                    self.session = Some(session);
                    self.tell_of_dead(&whys);
                    return self.listed(known);
                }
                Err(why) => whys.push(self.give_up(&why)),
            }
        }
        Look::Failed(whys.join("; "))
    }

    async fn begin(&self) -> Result<Session, String> {
        let (etcd, files, asker) = (Arc::clone(&self.etcd), Arc::clone(&self.files), Arc::clone(&self.asker));
        Session::begin(Member { etcd, files, asker, endpoint: self.turn, token: None }, self.poll).await
    }

    /// Leaves the member whose turn it was; who it is, and why.
    fn give_up(&mut self, why: &str) -> String {
        let why = format!("{}: {why}", self.etcd.endpoints[self.turn]);
        self.session = None;
        self.turn = (self.turn + 1) % self.etcd.endpoints.len();
        self.failures = self.failures.saturating_add(1);
        why
    }

    /// Tells of members that do not answer while another one does.
    fn tell_of_dead(&mut self, whys: &[String]) {
        let is_told = self.told_at.is_some_and(|at| at.elapsed() < TOLD_AGAIN);
        if !whys.is_empty() && !is_told {
            let answers = &self.etcd.endpoints[self.turn];
            log::warn!("servers_etcd {}: {}; {answers} answers", self.etcd, whys.join("; "));
            self.told_at = Some(Instant::now());
        }
    }

    /// How many registrations are none.
    #[must_use]
    pub fn unfit(&self) -> usize {
        self.unfit.len()
    }

    /// The servers that are registered. There is none is an answer that a cluster gives whose registrars have died.
    fn listed(&mut self, known: &[Listed]) -> Look {
        let Some(session) = &self.session else { return Look::Same };
        let (mut servers, mut unfit) = (Vec::new(), BTreeMap::new());
        for (name, value) in session.registry.pairs() {
            match registration(name, value) {
                Ok(server) => servers.push(server),
                Err(why) => {
                    let mut why = with_sample(why, value);
                    if let Some(last) = known.iter().find(|last| last.name.as_bytes() == name) {
                        servers.push(last.clone());
                        why += "; what it was before stays";
                    }
                    unfit.insert(reply::printable_bytes(name), why);
                }
            }
        }
        let new = unfit.iter().filter(|(name, why)| self.unfit.get(*name) != Some(why));
        for (name, why) in new.take(MOST_TOLD) {
            log::warn!("servers_etcd {}: {name:?} is no server: {why}", self.etcd);
        }
        self.unfit = unfit;
        if !servers.is_empty() {
            return Look::Taken(servers);
        }
        Look::Refused(match self.unfit.first_key_value() {
            None => "nobody is registered".to_owned(),
            Some((name, why)) => format!("nobody is registered but {name:?}, which is no server: {why}"),
        })
    }
}

impl Session {
    async fn begin(mut member: Member, poll: Duration) -> Result<Self, String> {
        if let Some((name, file)) = &member.etcd.user {
            let at = file.clone();
            let password = in_time(member.files.password.take(move || password(&at))).await?;
            let asked = member.ask("/v3/auth/authenticate", reply::ask_token(name, &password));
            let token = reply::token(&in_time(asked).await?)?;
            let mut token = HeaderValue::try_from(token).map_err(|_| "its token is no header".to_owned())?;
            token.set_sensitive(true);
            member.token = Some(token);
        }
        let mut registry = read(&member).await?;
        let mut watch = in_time(member.post("/v3/watch", registry.ask_watch())).await?;
        // It says that it is there.
        in_time(watch.line()).await.and_then(|line| registry.apply(&line))?;
        Ok(Self { member, registry, watch, due: Instant::now() + poll, behind_at: None })
    }

    /// Waits until something has changed (`true`), or it is confirmed that nothing has.
    async fn next(&mut self, poll: Duration) -> Result<bool, String> {
        let Self { member, registry, watch, due, behind_at } = self;
        // Lines with nothing new, however many, do not begin it anew.
        let mut reading = pin!(read_at(member, *due));
        loop {
            let whole = tokio::select! {
                line = watch.line() => {
                    if !registry.apply(&line?)? {
                        continue;
                    }
                    let until = Instant::now() + GATHER;
                    while let Ok(line) = timeout_at(until, watch.line()).await {
                        registry.apply(&line?)?;
                    }
                    return Ok(true);
                }
                whole = &mut reading => whole?,
            };
            let come_to = registry.revision();
            if whole.is_like(registry) {
                *behind_at = None;
                *due = Instant::now() + poll;
                return Ok(false);
            }
            // The watch tells everything, and in order. So one that goes on is alive.
            if *behind_at == Some(come_to) {
                return Err(format!("its watch does not tell what has changed {LATE:?} ago"));
            }
            let is_newer = whole.revision() >= come_to;
            *behind_at = is_newer.then_some(come_to);
            *due = Instant::now() + if is_newer { LATE } else { poll };
            reading.set(read_at(member, *due));
        }
    }
}

async fn read_at(member: &Member, due: Instant) -> Result<Registry, String> {
    sleep_until(due).await;
    read(member).await
}

async fn read(member: &Member) -> Result<Registry, String> {
    let prefix = &member.etcd.prefix;
    let reply = in_time(member.ask("/v3/kv/range", reply::ask_all(prefix))).await?;
    Registry::read(prefix, &reply)
}

/// Read each time: it may be a new one.
fn password(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = open_to_read(file).and_then(|file| file.take(MOST_PASSWORD).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

async fn in_time<T>(of: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(PATIENCE, of).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

/// None at first; then between a half and the whole of what doubles up to `most`: many that lose the same etcd do not come
/// back together.
fn pause(failures: u32, most: Duration) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let whole = PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(most);
    let random = RandomState::new().hash_one(failures);
    whole / 2 + whole.mul_f64((random >> 11) as f64 / (1_u64 << 54) as f64)
}
