//! What is known of every server: by its checks, and by the connects of clients. The rules are those of
//! [`crate::health`]; here is what they are applied to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::certificates::Seen;
use crate::balance;
use crate::config::{self, Address, Check, Config, Pool, ServerState};
use crate::control::check::{Report, Target, Verdict};
use crate::control::model::Certificate;
use crate::health::{Change, Ejection, Member, Pulse, Ramp, STEPS, judge};
use crate::snapshot::{Condition, Conditions, Health, Overrides, override_of};
use crate::tally::{Count, Times};
use crate::tick::Tick;

/// Checks that are under way at a time; the others wait for their turn. Their descriptors are of those that the process
/// keeps free.
const AT_A_TIME: usize = 64;

/// What a check may take longer than its time, until it is known.
const SLACK: Duration = Duration::from_millis(250);

/// A server of the configuration: its pool's name and its own.
pub(super) type Name = (String, String);

/// All servers of the configuration, and the checks that go on.
pub(super) struct Wards {
    wards: HashMap<Name, Ward>,
    probes: HashMap<Arc<Target>, Probing>,
    told: UnboundedSender<Told>,
    turns: Arc<Semaphore>,
    /// Checks that were begun so far: the next one's number.
    begun: u64,
}

/// A server.
struct Ward {
    addr: Address,
    source: Source,
    is_up: bool,
    /// It was there when the process began, and nothing is known of it: whatever comes is no change.
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

/// Checks of one target.
pub(super) struct Probing {
    number: u64,
    task: AbortHandle,
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

impl Wards {
    /// None yet; `told` hears of every check.
    pub(super) fn new(told: UnboundedSender<Told>) -> Self {
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        Self { wards: HashMap::new(), probes: HashMap::new(), told, turns, begun: 0 }
    }

    /// Cares for the servers of this configuration. What is as it was keeps its state, and its checks their times.
    pub(super) fn adopt(&mut self, config: &Config, overrides: &Overrides, is_start: bool) {
        let mut before = std::mem::take(&mut self.wards);
        let mut probes = std::mem::take(&mut self.probes);
        for (pool_place, pool) in config.pools.iter().enumerate() {
            for (place, server) in pool.servers.iter().enumerate() {
                let name = (pool.name.clone(), server.name.clone());
                let own = before.remove(&name).filter(|ward| ward.addr == server.addr);
                let source = source(config, overrides, pool_place, place, false);
                if let Source::Checked(target) = &source
                    && !self.probes.contains_key(target)
                {
                    let probing = match probes.remove(target) {
                        Some(probing) => probing,
                        None => self.begin(target, own.as_ref()),
                    };
                    self.probes.insert(Arc::clone(target), probing);
                }
                let new = || Ward {
                    addr: server.addr.clone(),
                    source: Source::Unchecked,
                    is_up: false,
                    is_new: is_start,
                    ejection: Ejection::default(),
                    ramp: None,
                };
                self.wards.insert(name, Ward { source, ..own.unwrap_or_else(new) });
            }
        }
        probes.into_values().for_each(|probing| probing.task.abort());
    }

    fn begin(&mut self, target: &Arc<Target>, before: Option<&Ward>) -> Probing {
        let known = before.filter(|ward| matches!(ward.source, Source::Checked(_) | Source::Unchecked));
        let pulse = known.map_or_else(|| Pulse::new(target.probe.initial), |ward| Pulse::known(ward.is_up));
        self.begun += 1;
        let number = self.begun;
        let (told, turns) = (self.told.clone(), Arc::clone(&self.turns));
        let task = tokio::spawn(probe(number, Arc::clone(target), pulse, told, turns)).abort_handle();
        Probing {
            number,
            task,
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
        let Some(probing) = self.probes.get_mut(&target).filter(|probing| probing.number == number) else {
            return false;
        };
        probing.results[report.verdict as usize].add_alone(1);
        probing.times.add_alone(u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX));
        probing.certificate.note(report.certificate_ends);
        probing.last = Some(report);
        let was = std::mem::replace(&mut probing.pulse, pulse);
        (was.is_up(), was.is_undecided()) != (pulse.is_up(), pulse.is_undecided())
    }

    /// The time that all first checks may take that something waits for; `None` when all have ended.
    pub(super) fn first_checks(&self) -> Option<Duration> {
        let undecided = self.probes.iter().filter(|(_, probing)| probing.pulse.is_undecided());
        let longest = undecided.clone().map(|(target, _)| target.probe.timeout).max()?;
        let rounds = u32::try_from(undecided.count().div_ceil(AT_A_TIME)).unwrap_or(u32::MAX);
        Some(longest.saturating_mul(rounds) + SLACK)
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
            Source::Resting => return None,
            Source::Down => false,
        };
        let is_known = !probing.is_some_and(|probing| probing.pulse.is_undecided());
        let was_new = is_known && std::mem::take(&mut ward.is_new);
        let has_changed = std::mem::replace(&mut ward.is_up, is_up) != is_up;
        // Checks that have found it down and up again know better than connects from before.
        if has_changed && is_up && ward.ejection.until().is_some() {
            ward.ejection.come_back(now, failures);
        }
        // Those with which the process begins have their whole share at once.
        if has_changed && is_up && !was_new {
            ward.ramp = pool.slow_start.map(|length| Ramp::new(now, length));
        }
        let reason = probing.and_then(|probing| probing.last.as_ref());
        let reason =
            || reason.map_or_else(|| "as the one that it tracks".to_owned(), |last| last.reason.clone());
        let what = match (is_up, has_changed, was_new) {
            (true, true, false) if probing.is_some() => What::Up(reason()),
            (false, true, _) | (false, false, true) => What::Down(reason()),
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
        let wards = &self.wards;
        let pick = |(target, probing): (&Arc<Target>, &mut Probing)| {
            let certificate = wanted(&mut probing.certificate)?;
            let own = wards
                .iter()
                .filter(|(_, ward)| matches!(&ward.source, Source::Checked(asked) if asked == target));
            let mut names: Vec<String> = own.map(|((pool, server), _)| format!("{pool}/{server}")).collect();
            names.sort();
            let noun = if names.len() == 1 { "server" } else { "servers" };
            Some((format!("{noun} {}", names.join(", ")), certificate))
        };
        self.probes.iter_mut().filter_map(pick).collect()
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

/// Where it is learnt whether that server is up; `is_tracked` by another one.
fn source(config: &Config, overrides: &Overrides, pool: usize, server: usize, is_tracked: bool) -> Source {
    let in_file = &config.pools[pool].servers[server];
    let name = (config.pools[pool].name.clone(), in_file.name.clone());
    let state = override_of(overrides, &name.0, &name.1).state.unwrap_or(in_file.state);
    match &config.pools[pool].check {
        _ if state == ServerState::Maint => {
            if is_tracked {
                Source::Down
            } else {
                Source::Resting
            }
        }
        Check::Off => Source::Unchecked,
        Check::Track { pool, server } => source(config, overrides, *pool, *server, true),
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

/// Asks again and again.
async fn probe(
    number: u64,
    target: Arc<Target>,
    mut pulse: Pulse,
    told: UnboundedSender<Told>,
    turns: Arc<Semaphore>,
) {
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
