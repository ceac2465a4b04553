//! What is known of every server: by its checks, and by the connects of clients. The rules are those of
//! [`crate::health`]; here is what they are applied to.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until};

use super::certificates::Seen;
use super::task::Task;
use crate::balance;
use crate::config::{self, Address, Check, Config, Kind, Pool, ServerState};
use crate::control::check::{Report, Target, Verdict};
use crate::control::model::Certificate;
use crate::health::{Change, Ejection, Member, Pulse, Ramp, STEPS, judge};
use crate::process::room::CHECKS;
use crate::snapshot::{Condition, Conditions, Health, Overrides, override_of};
use crate::tally::{Count, Times};
use crate::tick::Tick;

/// Programs that run as checks at a time; others wait for their turn, and hold up no check of another kind.
const PROGRAMS: usize = 64;

/// What a check may take longer than its time, until it is known: far more than it does, since on a machine that is busy for seconds
/// a server is not to be given up before its check has ended.
const SLACK: Duration = Duration::from_secs(5);

/// A server of the configuration: its pool's name and its own.
pub(super) type Name = (String, String);

/// All servers of the configuration, and the checks that go on.
pub(super) struct Wards {
    wards: HashMap<Name, Ward>,
    probes: HashMap<Arc<Target>, Probing>,
    /// Checks of servers that another configuration has: one that is about to be in effect, or that may be so again.
    ahead: HashMap<Arc<Target>, Probing>,
    told: UnboundedSender<Told>,
    turns: Turns,
    /// Checks that were begun so far: the next one's number.
    begun: u64,
}

/// A server.
struct Ward {
    addr: Address,
    source: Source,
    /// `pool/server`: who is asked in its place, if it tracks one.
    tracked: Option<String>,
    is_up: bool,
    /// That was found out, and is not only what the file says.
    is_known: bool,
    /// It was there when the process began, and nothing is known of it: that it is up is no change.
    is_new: bool,
    ejection: Ejection,
    ramp: Option<Ramp>,
}

/// Where it is learnt whether a server is up.
#[derive(Clone)]
enum Source {
    /// Nowhere: it counts as up.
    Unchecked,
    /// From these checks.
    Checked(Arc<Target>),
    /// It is in maintenance, and stays what it was.
    Resting,
    /// It tracks one that is in maintenance, and is down as that.
    Down,
}

/// Whose turn it is to ask. A server that does not answer holds its turn as long as a check may take, so there are [`CHECKS`],
/// which is more than most configurations have servers. There are fewer for programs, which cost more than a connection.
#[derive(Clone)]
struct Turns {
    connections: Arc<Semaphore>,
    programs: Arc<Semaphore>,
}

/// Checks of one target.
pub(super) struct Probing {
    number: u64,
    /// Checks.
    _task: Task,
    pulse: Pulse,
    /// The last one.
    pub(super) last: Option<Report>,
    pub(super) certificate: Seen,
    /// By result: passed, failed, unable.
    pub(super) results: [Count; 3],
    pub(super) times: Times,
}

/// A check has ended.
pub(super) struct Told {
    number: u64,
    target: Arc<Target>,
    pulse: Pulse,
    report: Report,
}

/// What has become of a server.
pub(super) struct Event {
    pub(super) name: Name,
    pub(super) what: What,
}

pub(super) enum What {
    Up(String),
    Down(String),
    Ejected(Duration, u32),
    Back,
}

/// A server as it is shown.
pub(super) struct Shown<'a> {
    pub(super) health: Health,
    pub(super) ejected_until: Option<Tick>,
    pub(super) step: u32,
    pub(super) check: Option<(&'a Target, &'a Probing)>,
}

impl Probing {
    /// Whether its first check goes on. One that could not be made has ended, too.
    fn is_awaited(&self) -> bool {
        self.pulse.is_undecided() && self.last.is_none()
    }
}

impl Wards {
    /// None yet; `told` hears of every check.
    pub(super) fn new(told: UnboundedSender<Told>) -> Self {
        let turns = Turns {
            connections: Arc::new(Semaphore::new(CHECKS)),
            programs: Arc::new(Semaphore::new(PROGRAMS)),
        };
        Self { wards: HashMap::new(), probes: HashMap::new(), ahead: HashMap::new(), told, turns, begun: 0 }
    }

    /// Cares for the servers of this configuration. What is as it was keeps its state, and its checks their times.
    pub(super) fn adopt(&mut self, config: &Config, overrides: &Overrides, is_start: bool) {
        let mut before = std::mem::take(&mut self.wards);
        let mut probes = std::mem::take(&mut self.probes);
        for (pool_place, pool) in config.pools.iter().enumerate() {
            for (place, server) in pool.servers.iter().enumerate() {
                let name = (pool.name.clone(), server.name.clone());
                let own = before.remove(&name).filter(|ward| ward.addr == server.addr);
                let source = source(config, overrides, pool_place, place);
                let decider = decider(config, overrides, (pool_place, place));
                let tracked = (decider != (pool_place, place)).then(|| {
                    let pool = &config.pools[decider.0];
                    format!("{}/{}", pool.name, pool.servers[decider.1].name)
                });
                if let Source::Checked(target) = &source
                    && !self.probes.contains_key(target)
                {
                    let known = probes.remove(target).or_else(|| self.ahead.remove(target));
                    let probing = match known {
                        Some(probing) => probing,
                        None => self.begin(target, first_pulse(target, own.as_ref())),
                    };
                    self.probes.insert(Arc::clone(target), probing);
                }
                let new = || Ward {
                    addr: server.addr.clone(),
                    source: Source::Unchecked,
                    tracked: None,
                    is_up: false,
                    is_known: false,
                    is_new: is_start,
                    ejection: Ejection::default(),
                    ramp: None,
                };
                self.wards.insert(name, Ward { source, tracked, ..own.unwrap_or_else(new) });
            }
        }
    }

    /// Begins to check the servers of a configuration that is about to be in effect, where a pool would have nobody, or
    /// fewer than before, until their first checks have ended: what is waited for.
    pub(super) fn check_ahead(&mut self, config: &Config, overrides: &Overrides) -> Vec<Arc<Target>> {
        let all = config
            .pools
            .iter()
            .flat_map(|pool| pool.servers.iter().map(|server| ((&*pool.name, &*server.name), &server.addr)));
        let all: HashMap<(&str, &str), &Address> = all.collect();
        let leaving = self.wards.iter().filter(|((pool, server), ward)| {
            ward.is_up && all.get(&(&**pool, &**server)).is_none_or(|addr| **addr != ward.addr)
        });
        let losing: HashSet<&str> = leaving.map(|((pool, _), _)| &**pool).collect();
        let mut awaited = Vec::new();
        for (place, pool) in config.pools.iter().enumerate() {
            let (new, has_others) = self.unchecked(config, overrides, place);
            if !has_others || losing.contains(&*pool.name) {
                awaited.extend(new);
            }
        }
        for target in &awaited {
            self.go_on_with(target, Pulse::new(target.probe.initial));
        }
        awaited
    }

    /// The targets of a pool's servers whose first check is waited for, and whether others of its servers can be used.
    fn unchecked(&self, config: &Config, overrides: &Overrides, place: usize) -> (Vec<Arc<Target>>, bool) {
        let (mut new, mut has_others) = (Vec::new(), false);
        let pool = &config.pools[place];
        for (number, server) in pool.servers.iter().enumerate() {
            let name = (pool.name.clone(), server.name.clone());
            let over = override_of(overrides, &name.0, &name.1);
            let is_ready = over.state.unwrap_or(server.state) == ServerState::Ready;
            if !is_ready || over.weight.unwrap_or(server.weight) == 0 {
                continue;
            }
            let pulse = match source(config, overrides, place, number) {
                Source::Unchecked => Pulse::known(true),
                Source::Resting | Source::Down => continue,
                Source::Checked(target) => {
                    let own = self.wards.get(&name).filter(|ward| ward.addr == server.addr);
                    let known = self.probes.get(&target).map(|probing| probing.pulse);
                    let pulse = known.unwrap_or_else(|| first_pulse(&target, own));
                    if pulse.is_undecided() && self.probes.get(&target).is_none_or(Probing::is_awaited) {
                        new.push(target);
                    }
                    pulse
                }
            };
            has_others |= pulse.is_up() && !server.backup;
        }
        (new, has_others)
    }

    /// Checks this one as well, of which that is known, though it is in no configuration that is in effect.
    pub(super) fn go_on_with(&mut self, target: &Arc<Target>, pulse: Pulse) {
        if !self.probes.contains_key(target) && !self.ahead.contains_key(target) {
            let probing = self.begin(target, pulse);
            self.ahead.insert(Arc::clone(target), probing);
        }
    }

    /// Checks only what is in effect.
    pub(super) fn check_no_more_ahead(&mut self) {
        self.ahead.clear();
    }

    /// What is checked, and what is known of it.
    pub(super) fn targets(&self) -> Vec<(Arc<Target>, Pulse)> {
        self.probes.iter().map(|(target, probing)| (Arc::clone(target), probing.pulse)).collect()
    }

    fn begin(&mut self, target: &Arc<Target>, pulse: Pulse) -> Probing {
        self.begun += 1;
        let number = self.begun;
        let (told, turns) = (self.told.clone(), self.turns.clone());
        let task = Task::new(probe(number, Arc::clone(target), pulse, told, turns));
        Probing {
            number,
            _task: task,
            pulse,
            last: None,
            certificate: Seen::default(),
            results: Default::default(),
            times: Times::default(),
        }
    }

    /// Takes note of a check; whether that changes anything but what is shown.
    pub(super) fn note(&mut self, told: Told) -> bool {
        let Told { number, target, pulse, report } = told;
        // One that was given up may have had its last word on the way.
        let probing = self.probes.get_mut(&target).or_else(|| self.ahead.get_mut(&target));
        let Some(probing) = probing.filter(|probing| probing.number == number) else { return false };
        probing.results[report.verdict as usize].add_alone(1);
        probing.times.add_alone(u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX));
        probing.certificate.note(report.certificate_ends);
        let unable = |report: &Report| (report.verdict == Verdict::Unable).then(|| report.reason.clone());
        let (was_unable, is_unable) = (probing.last.as_ref().and_then(unable), unable(&report));
        probing.last = Some(report);
        let was = std::mem::replace(&mut probing.pulse, pulse);
        match is_unable {
            Some(reason) if was_unable.as_ref() != Some(&reason) => {
                log::warn!("the check of {} cannot be made, and says nothing: {reason}", self.whose(&target));
            }
            None if was_unable.is_some() => log::info!("the check of {} is made again", self.whose(&target)),
            _ => {}
        }
        (was.is_up(), was.is_known(), was.is_undecided())
            != (pulse.is_up(), pulse.is_known(), pulse.is_undecided())
    }

    /// The time that all first checks may take that something waits for; `None` when all have ended.
    pub(super) fn first_checks(&self) -> Option<Duration> {
        let awaited = self.probes.iter().filter(|(_, probing)| probing.is_awaited());
        patience(awaited.map(|(target, _)| &**target))
    }

    /// The same of these.
    pub(super) fn first_checks_of(&self, targets: &[Arc<Target>]) -> Option<Duration> {
        let probing = |target: &Target| self.probes.get(target).or_else(|| self.ahead.get(target));
        let is_awaited = |target: &&Arc<Target>| probing(target).is_some_and(Probing::is_awaited);
        patience(targets.iter().filter(is_awaited).map(|target| &**target))
    }

    /// Sees what has become of every server. `failures` are connects that have failed in a row.
    pub(super) fn refresh(
        &mut self,
        config: &Config,
        overrides: &Overrides,
        failures: &HashMap<(&str, &str), u32>,
        now: Tick,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for pool in &config.pools {
            let names = pool.servers.iter().map(|server| (pool.name.clone(), server.name.clone()));
            let names: Vec<Name> = names.collect();
            for name in &names {
                let failures = failures.get(&(&*name.0, &*name.1)).copied().unwrap_or(0);
                events.extend(self.look_at(name, pool, failures, now));
            }
            let member = |(name, server): (&Name, &config::Server)| {
                let ward = &self.wards[name];
                let over = override_of(overrides, &name.0, &name.1);
                let is_ready = over.state.unwrap_or(server.state) == ServerState::Ready;
                let is_usable = is_ready && over.weight.unwrap_or(server.weight) > 0 && ward.is_up;
                let failures = failures.get(&(&*name.0, &*name.1)).copied().unwrap_or(0);
                Member { ejection: ward.ejection, failures, is_usable }
            };
            let mut members: Vec<Member> = names.iter().zip(&pool.servers).map(member).collect();
            for (place, change) in judge(&pool.passive, now, &mut members) {
                let what = match change {
                    Change::Out(time) => What::Ejected(time, members[place].failures),
                    Change::Back => What::Back,
                };
                events.push(Event { name: names[place].clone(), what });
            }
            for (name, member) in names.iter().zip(members) {
                if let Some(ward) = self.wards.get_mut(name) {
                    ward.ejection = member.ejection;
                }
            }
        }
        events
    }

    /// Sees whether a server has gone up or down.
    fn look_at(&mut self, name: &Name, pool: &Pool, failures: u32, now: Tick) -> Option<Event> {
        let ward = self.wards.get_mut(name)?;
        ward.ramp.take_if(|ramp| ramp.next(now).is_none());
        let probing = match &ward.source {
            Source::Checked(target) => self.probes.get(target),
            _ => None,
        };
        let is_up = match ward.source {
            Source::Unchecked => true,
            Source::Checked(_) => probing.is_some_and(|probing| probing.pulse.is_up()),
            // It stays what it was, and is nothing any more when it is asked again.
            Source::Resting => {
                ward.is_known = false;
                return None;
            }
            Source::Down => false,
        };
        let is_known = probing.is_none_or(|probing| probing.pulse.is_known());
        let was_known = std::mem::replace(&mut ward.is_known, is_known);
        let was_new = ward.is_new;
        ward.is_new &= !is_known;
        let has_changed = std::mem::replace(&mut ward.is_up, is_up) != is_up;
        // Checks that have found it down and up again know better than connects from before.
        if has_changed && is_up && ward.ejection.until().is_some() {
            ward.ejection.come_back(now, failures);
        }
        // Those with which the process begins have their whole share at once.
        if has_changed && is_up && !was_new {
            ward.ramp = pool.slow_start.map(|length| Ramp::new(now, length));
        }
        // What it is before its first check was found by nobody, and ends no session.
        if !is_known {
            return None;
        }
        let last = probing.and_then(|probing| probing.last.as_ref());
        let has_failed = last.is_some_and(|last| last.verdict == Verdict::Failed);
        let found = match (&ward.source, last) {
            (Source::Down, _) => "it is in maintenance",
            (_, Some(last)) => &last.reason,
            (_, None) => "as it was found before",
        };
        let reason = match &ward.tracked {
            Some(tracked) => format!("as {tracked}, which it tracks: {found}"),
            None => found.to_owned(),
        };
        let what = match (is_up, has_changed) {
            (true, true) if probing.is_some() && !was_new => What::Up(reason),
            (false, true) => What::Down(reason),
            (false, false) if !was_known && has_failed => What::Down(reason),
            _ => return None,
        };
        Some(Event { name: name.clone(), what })
    }

    /// What snapshots have to know.
    pub(super) fn conditions(&self, now: Tick) -> Conditions {
        let all = self.wards.iter().map(|(name, ward)| (name, ward.condition(now)));
        let differs = all.filter(|(_, condition)| *condition != Condition::default());
        differs.map(|(name, condition)| (name.clone(), condition)).collect()
    }

    /// When something changes by itself.
    pub(super) fn next(&self, now: Tick) -> Option<Tick> {
        let due = |ward: &Ward| {
            let ramp = ward.ramp.and_then(|ramp| ramp.next(now));
            ramp.into_iter().chain(ward.ejection.until()).min()
        };
        self.wards.values().filter_map(due).min()
    }

    /// The certificates that `wanted` picks, each with the servers whose it is: `server pg/a`, `servers pg/a, pg/b`.
    pub(super) fn certificates(
        &mut self,
        mut wanted: impl FnMut(&mut Seen) -> Option<Certificate>,
    ) -> Vec<(String, Certificate)> {
        let picked = self.probes.iter_mut().filter_map(|(target, probing)| {
            let certificate = wanted(&mut probing.certificate)?;
            Some((Arc::clone(target), certificate))
        });
        let picked: Vec<_> = picked.collect();
        picked.into_iter().map(|(target, certificate)| (self.whose(&target), certificate)).collect()
    }

    /// The servers that are checked so, in words.
    fn whose(&self, target: &Target) -> String {
        let is_own = |ward: &Ward| matches!(&ward.source, Source::Checked(asked) if **asked == *target);
        let own = self.wards.iter().filter(|(_, ward)| is_own(ward));
        let mut names: Vec<String> = own.map(|((pool, server), _)| format!("{pool}/{server}")).collect();
        names.sort();
        match &*names {
            // It is checked ahead.
            [] => format!("server {}", target.addr),
            [name] => format!("server {name}"),
            names => format!("servers {}", names.join(", ")),
        }
    }

    /// A server as it is shown.
    pub(super) fn shown(&self, name: &Name, now: Tick) -> Option<Shown<'_>> {
        let ward = self.wards.get(name)?;
        let Condition { health, step } = ward.condition(now);
        let check = match &ward.source {
            Source::Checked(target) => self.probes.get_key_value(target),
            _ => None,
        };
        let check = check.map(|(target, probing)| (&**target, probing));
        Some(Shown { health, ejected_until: ward.ejection.until(), step, check })
    }
}

impl Ward {
    fn condition(&self, now: Tick) -> Condition {
        let health = match (self.is_up, self.ejection.until()) {
            (false, _) => Health::Down,
            (true, Some(_)) => Health::Ejected,
            (true, None) => Health::Up,
        };
        Condition { health, step: self.ramp.map_or(STEPS, |ramp| ramp.step(now)) }
    }
}

/// The server whose state decides that of `of`, both by their places in the file: itself, unless it tracks one. Where one
/// tracks another that tracks a third, it is the first of them that tracks nobody, or is in maintenance.
fn decider(config: &Config, overrides: &Overrides, of: (usize, usize)) -> (usize, usize) {
    let mut decider = of;
    while let Check::Track { pool, server } = config.pools[decider.0].check
        && state_of(config, overrides, decider) != ServerState::Maint
    {
        decider = (pool, server);
    }
    decider
}

fn state_of(config: &Config, overrides: &Overrides, (pool, server): (usize, usize)) -> ServerState {
    let pool = &config.pools[pool];
    let server = &pool.servers[server];
    override_of(overrides, &pool.name, &server.name).state.unwrap_or(server.state)
}

/// Where it is learnt whether that server is up.
fn source(config: &Config, overrides: &Overrides, of_pool: usize, of_server: usize) -> Source {
    let decider = decider(config, overrides, (of_pool, of_server));
    let (pool, server) = decider;
    let in_file = &config.pools[pool].servers[server];
    match &config.pools[pool].check {
        _ if state_of(config, overrides, decider) == ServerState::Maint => {
            if decider == (of_pool, of_server) { Source::Resting } else { Source::Down }
        }
        Check::Off | Check::Track { .. } => Source::Unchecked,
        Check::Own(probe) => {
            let mut addr = in_file.addr.clone();
            if let (Address::Ip(at), Some(port)) = (&mut addr, probe.port) {
                at.set_port(port.get());
            }
            let tcp = config.pools[pool].tcp.clone();
            let source = own_address(&config.pools[pool].source, &addr);
            // Another port is another service's, which is not among the pool's servers.
            let is_servers = addr == in_file.addr;
            let send_proxy = config.pools[pool].send_proxy.filter(|_| is_servers).map(|send| send.version);
            Source::Checked(Arc::new(Target { addr, probe: probe.clone(), tcp, source, send_proxy }))
        }
    }
}

/// The first of a pool's own addresses from which that server can be asked. A check has no client whose address it could
/// have.
fn own_address(sources: &config::Source, addr: &Address) -> Option<IpAddr> {
    let (config::Source::Addresses(all), Address::Ip(to)) = (sources, addr) else { return None };
    all.iter().copied().find(|source| source.is_ipv4() == to.is_ipv4())
}

/// What is taken to be known of a server when its checks begin. One that was in maintenance, or followed one that was,
/// may have become another meanwhile.
fn first_pulse(target: &Target, before: Option<&Ward>) -> Pulse {
    let is_known =
        |ward: &&Ward| ward.is_known && matches!(ward.source, Source::Checked(_) | Source::Unchecked);
    let known = before.filter(is_known);
    known.map_or_else(|| Pulse::new(target.probe.initial), |ward| Pulse::known(ward.is_up))
}

/// How long the first checks of these may take; `None` if there are none.
fn patience<'a>(targets: impl Iterator<Item = &'a Target>) -> Option<Duration> {
    let (programs, connections): (Vec<&Target>, Vec<&Target>) =
        targets.partition(|target| is_program(target));
    let time = |targets: &[&Target], at_a_time: usize| {
        let longest = targets.iter().map(|target| target.probe.timeout).max()?;
        let rounds = u32::try_from(targets.len().div_ceil(at_a_time)).unwrap_or(u32::MAX);
        Some(longest.saturating_mul(rounds))
    };
    let longest = time(&programs, PROGRAMS).max(time(&connections, CHECKS))?;
    Some(longest + SLACK)
}

fn is_program(target: &Target) -> bool {
    matches!(target.probe.kind, Kind::Exec(_))
}

/// Asks again and again.
async fn probe(
    number: u64,
    target: Arc<Target>,
    mut pulse: Pulse,
    told: UnboundedSender<Told>,
    turns: Turns,
) {
    let turns = if is_program(&target) { turns.programs } else { turns.connections };
    for round in 0_u64.. {
        let turn = turns.acquire().await;
        let began = Instant::now();
        let (report, farewell) = target.check().await;
        match report.verdict {
            Verdict::Passed => pulse.note(true, &target.probe),
            Verdict::Failed => pulse.note(false, &target.probe),
            Verdict::Unable => {}
        }
        if told.send(Told { number, target: Arc::clone(&target), pulse, report }).is_err() {
            return;
        }
        farewell.say().await;
        drop(turn);
        let random = balance::random(number << 32 ^ round);
        sleep_until(began + pulse.wait(&target.probe, random)).await;
    }
}
