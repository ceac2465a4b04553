//! Another configuration in place of the one that is in effect. What does not differ is not touched; what can fail is done
//! before anything is changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep};

use super::closing::Manner;
use super::sources::{Known, SETTLE_BEAT};
use super::stamps::{self, Stamp};
use super::trial::Trial;
use super::{Bound, Live, Place, State, refuse, silence};
use crate::cause::Cause;
use crate::config::{self, Address, Config, OnRemoved, Tcp, given_name};
use crate::control::discovery;
use crate::control::effect::{self, Counts};
use crate::control::model::{Effect, Refusal, RefusalKind};
use crate::engine;
use crate::logging::Recorder;
use crate::process::sets::Sets;
use crate::process::{bind, options, room};
use crate::snapshot::{Conditions, Overrides, PoolId, Server, ServerId, Serving, Snapshot};
use crate::sys::net::{self, Listener};
use crate::worker::{Command, Which};

/// How long a reload waits for first checks at most: whoever has asked for it waits for its answer no longer than a minute.
const CHECKS_MOST: Duration = Duration::from_secs(50);

/// What became of the attempts to change the configuration.
pub(super) struct History {
    /// How often it was changed.
    pub(super) generation: u64,
    /// When, the last time, in seconds since 1970.
    pub(super) loaded_at: f64,
    /// Why the last attempt failed.
    pub(super) error: Option<String>,
    /// Every file that was read then, as it was.
    pub(super) files: Vec<Stamp>,
}

impl History {
    pub(super) fn new(loaded_at: f64, files: Vec<Stamp>) -> Self {
        Self { generation: 0, loaded_at, error: None, files }
    }
}

/// What is done with the sockets: everything else stays as it is.
struct Sockets {
    /// For listeners that have none at this address yet.
    new: Vec<Bound>,
    /// In another worker's hands, of another listener, or with other options from now on.
    moved: Vec<Move>,
    /// Closed: of these listeners, at these addresses.
    gone: Vec<(String, Address)>,
}

/// A socket that changes hands.
struct Move {
    from: String,
    to: String,
    at: Address,
    /// The options that it has.
    had: Tcp,
}

impl Live {
    /// Reads the file again, and goes by it as soon as the servers that it brings were checked.
    pub(super) async fn reload_file(&self, why: &str, trial: Option<Duration>) -> Result<Effect, Refusal> {
        let _turn = self.reloading.lock().await;
        let mut state = self.state.lock().await;
        // Who is stopping says nothing else any more.
        let tells = !self.crew.is_draining();
        if tells {
            self.notifier.reloading();
        }
        let result = match self.read(&mut state) {
            Ok(new) => {
                state = self.check_ahead(state, &new).await;
                self.go_by_file(&mut state, new, trial).await
            }
            Err(refusal) => Err(refusal),
        };
        match &result {
            Ok(effect) if effect.unchanged => log::info!("{why}: reloaded; nothing differs"),
            Ok(effect) => {
                log::info!("{why}: reloaded");
                effect.lines.iter().for_each(|line| log::info!("reload: {line}"));
            }
            Err(refusal) => log::error!("{why}: not reloaded, nothing was changed: {refusal}"),
        }
        state.history.error = result.as_ref().err().map(ToString::to_string);
        if tells && !self.crew.is_draining() {
            self.notifier.ready(match &state.history.error {
                None => "serving",
                Some(_) => "serving; the last reload was refused, see the log",
            });
        }
        result
    }

    fn read(&self, state: &mut State) -> Result<Config, Refusal> {
        let Some(source) = &self.source else {
            let message = "this configuration is not from a file";
            return Err(refuse(RefusalKind::Conflict, message, "start it with `tidegate run -c FILE`"));
        };
        if state.trial.is_some() {
            let message = "the last reload waits to be confirmed";
            return Err(refuse(
                RefusalKind::Conflict,
                message,
                "`tidegate ctl confirm` or `tidegate ctl rollback` first",
            ));
        }
        let before = stamps::again(&state.history.files);
        let (new, files) = source.read();
        state.history.files = stamps::of_with(files, &before);
        let new = new.map_err(|report| Refusal::new(RefusalKind::Invalid, report.to_string()))?;
        allowed(&state.config, &new)?;
        Ok(new)
    }

    /// Waits for the first checks of servers that are to serve in place of others, which serve meanwhile.
    async fn check_ahead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        new: &Config,
    ) -> MutexGuard<'a, State> {
        let overrides = kept(&state.overrides, &state.file, new);
        let wanted = state.sources.in_effect(new);
        let awaited = state.wards.check_ahead(&wanted, &overrides);
        let Some(patience) = state.wards.first_checks_of(&awaited) else { return state };
        let patience = patience.min(CHECKS_MOST);
        log::info!("reload: waiting for the first checks of new servers, {patience:?} at most");
        let until = Instant::now() + patience;
        while state.wards.first_checks_of(&awaited).is_some()
            && Instant::now() < until
            && !self.crew.is_draining()
        {
            drop(state);
            sleep(SETTLE_BEAT).await;
            state = self.state.lock().await;
        }
        state
    }

    async fn go_by_file(
        &self,
        state: &mut State,
        new: Config,
        trial: Option<Duration>,
    ) -> Result<Effect, Refusal> {
        let (previous, before) = (state.file.clone(), state.overrides.clone());
        let overrides = kept(&before, &previous, &new);
        // What a rollback is to know again.
        let on_trial = trial.map(|limit| (limit, state.sources.known(), state.wards.targets()));
        let result = self.apply(state, new, overrides, &Known::default()).await;
        state.wards.check_no_more_ahead();
        let effect = result?;
        if let Some((limit, known, checked)) = on_trial {
            let snapshot = self.published.current();
            state.trial = Some(Trial::new((previous, before, known), self.clock.now(), limit, &snapshot));
            // Who is had back by a rollback serves at once.
            for (target, pulse) in &checked {
                state.wards.go_on_with(target, *pulse);
            }
        }
        Ok(effect)
    }

    /// What a configuration would change.
    pub(super) async fn difference(&self, text: &str) -> Result<Effect, Refusal> {
        let parsed = config::parse(text, "the new configuration");
        let mut new = parsed.map_err(|report| Refusal::new(RefusalKind::Invalid, report.to_string()))?;
        if let Some(source) = &self.source {
            source.adjust(&mut new);
        }
        let state = self.state.lock().await;
        allowed(&state.config, &new)?;
        let snapshot = self.published.current();
        Ok(effect::effect(&state.file, &new, &*snapshot))
    }

    /// Goes by `new` and by `overrides` from now on, or says why not and has changed nothing. Of names and lists that have not
    /// been there, it is `known` already what they stand for.
    pub(super) async fn apply(
        &self,
        state: &mut State,
        new: Config,
        overrides: Overrides,
        known: &Known,
    ) -> Result<Effect, Refusal> {
        if self.crew.is_draining() {
            return Err(refuse(RefusalKind::Conflict, "the process is stopping", "start it again"));
        }
        allowed(&state.config, &new)?;
        let conflict = |error: &dyn std::fmt::Display| Refusal::new(RefusalKind::Conflict, error.to_string());
        let rings = new.process.uring;
        let each = state.sets.each();
        let sets =
            state.sets.next(&new, |kind| engine::probe(kind, rings, each)).map_err(|e| conflict(&e))?;
        let room = room::check(&new, &sets, &self.cpus).map_err(|error| conflict(&error))?;
        let notes = options::check(&new).map_err(|error| conflict(&error))?;
        self.expect_all(state).await?;
        let sockets = plan(state, &new, &sets).map_err(|error| conflict(&error))?;
        let before = self.published.current();
        let effect = effect::effect(&state.file, &new, &*before);
        // That everything can have its id. What servers are is looked at when nothing is refused any more.
        let tried = before.next(&new, room.maxconn, &overrides, &Conditions::new(), self.clock.now());
        tried.map_err(|error| {
            conflict(&error).help("reload again in a minute, or keep the names of what stays")
        })?;
        self.add_sets(state, &sets, &new)?;

        // From here on nothing is refused any more.
        sets.report_new(&state.sets);
        notes.iter().chain(&crate::process::oddities(&new)).for_each(|note| log::warn!("{note}"));
        let was = std::mem::replace(&mut state.sets, sets);
        self.close(state, &sockets.gone).await;
        let waits = state.sources.is_settling();
        state.sources.adopt(&new, known, self.clock).await;
        let wanted = state.sources.in_effect(&new);
        let joined = discovery::with_leaving(&state.config, &wanted, waits);
        let is_joined = joined.is_some();
        let old = std::mem::replace(&mut state.config, joined.unwrap_or_else(|| wanted.clone()));
        state.file = new;
        state.overrides = overrides;
        self.publish_next(state, room.maxconn).await;
        if is_joined {
            state.sources.settle(wanted, state.wards.first_checks());
        }
        self.move_sockets(state, &was, &before, sockets.moved).await;
        if let Err((worker, error)) = self.listen(state, sockets.new).await {
            log::error!("worker {worker} cannot watch a listening socket: {error}; the others go on");
        }
        state.shut.adopt(&state.config);
        self.mind_listening(state).await;
        if old.log.level != state.config.log.level {
            self.log.set_level(state.config.log.level);
        }
        state.history.generation += 1;
        #[expect(clippy::cast_precision_loss, reason = "exact for the next thousands of years")]
        let now = self.clock.wall_ms() as f64 / 1e3;
        state.history.loaded_at = now;
        Ok(effect)
    }

    /// That every worker answers now.
    async fn expect_all(&self, state: &State) -> Result<(), Refusal> {
        let silent = self.call_roll(state).await;
        if silent.is_empty() {
            return Ok(());
        }
        Err(refuse(
            RefusalKind::Conflict,
            silence(state, &silent),
            "it is stuck, or the machine has no time for it: try again, or start the process again",
        ))
    }

    /// Has everybody go by another snapshot, and waits until they do; those that do not in time.
    pub(super) async fn publish(&self, state: &State, next: Arc<Snapshot>) -> Vec<u16> {
        // Before anybody writes a record with its ids.
        self.log.set_names(Arc::clone(&next));
        let before = self.published.current();
        self.published.publish(Arc::clone(&next));
        tell_who_serves(&before, &next);
        // What is due of servers may have changed with it.
        next.alarm.ring();
        let silent = self.call_roll(state).await;
        if !silent.is_empty() {
            log::error!("{}; it goes by what was set as soon as it does", silence(state, &silent));
        }
        silent
    }

    /// Starts workers for engines that were not in use so far.
    fn add_sets(&self, state: &mut State, sets: &Sets, new: &Config) -> Result<(), Refusal> {
        for kind in &sets.engines()[usize::from(state.sets.count())..] {
            if !self.crew.has_room() {
                return Err(refuse(
                    RefusalKind::Conflict,
                    format!(
                        "the engine {} cannot be added: starting others has failed too often",
                        kind.name()
                    ),
                    "start the process again",
                ));
            }
            let (first, mailboxes) = self.crew.add_set();
            state.sets.add(*kind);
            let recorders: Vec<Recorder> =
                mailboxes.iter().map(|_| self.log.add_recorder(&new.access, kind.name())).collect();
            let workers = (first..).take(mailboxes.len());
            let started = self.start_workers(state, first, mailboxes.into_iter().zip(recorders).collect());
            if let Err(error) = started {
                state.threads.give_up();
                state.sets.forsake(*kind);
                workers.for_each(|worker| self.crew.forsake(worker));
                return Err(refuse(
                    RefusalKind::Conflict,
                    format!("the engine {} cannot be started: {error}", kind.name()),
                    "mend the cause and start the process again, or leave this engine out",
                ));
            }
            state.threads.go();
        }
        Ok(())
    }

    /// Lets in who waits at addresses that are listened on no more, and closes them.
    pub(super) async fn close(&self, state: &mut State, gone: &[(String, Address)]) {
        if gone.is_empty() {
            return;
        }
        let is_gone =
            |place: &mut Place| gone.iter().any(|(name, at)| *name == place.listener && *at == place.at);
        let closed: Vec<Place> = state.places.extract_if(.., is_gone).collect();
        let locals: Vec<Address> = closed.iter().flat_map(|place| place.locals.clone()).collect();
        for worker in 0..u16::try_from(state.hands.len()).expect("few workers") {
            let locals = locals.clone();
            let which: Which<Listener> =
                Box::new(move |_, socket| socket.address().is_ok_and(|at| locals.contains(&at)));
            let _ = self.ask(state, worker, |reply| Command::Close { which, reply }).await;
        }
        for place in &closed {
            if let Address::Handed(name) = &place.at
                && let Some(had) = state.config.listeners.iter().find(|one| one.name == place.listener)
            {
                state.handed.release(name, &had.tcp);
            }
            log::info!("listener {}: no longer listening on {}", place.listener, place.at);
        }
    }

    /// Takes sockets from workers, open, and gives each to the worker that is to have it now. Clients wait meanwhile.
    async fn move_sockets(&self, state: &mut State, was: &Sets, before: &Snapshot, moved: Vec<Move>) {
        for Move { from, to, at, had } in moved {
            let own = |place: &Place| place.at == at && place.listener == from;
            let Some(place) = state.places.iter().position(own) else { continue };
            let place = state.places.swap_remove(place);
            let Some(id) = before.listener_id(&place.listener) else { continue };
            let mut sockets = Vec::new();
            for worker in 0..was.workers() {
                let locals = place.locals.clone();
                let which: Which<Listener> =
                    Box::new(move |_, socket| socket.address().is_ok_and(|at| locals.contains(&at)));
                let taken = self.ask(state, worker, |reply| Command::Unlisten { id, which, reply }).await;
                let of_set = worker % was.each();
                sockets.extend(taken.unwrap_or_default().into_iter().map(|socket| (of_set, socket)));
            }
            let Some(new) = state.config.listeners.iter().find(|one| one.name == to) else { continue };
            for (_, socket) in &sockets {
                if let Err(error) = net::adjust(socket, bind::backlog(new), &had, &new.tcp) {
                    log::error!("listener {}: {at} keeps its old options: {error}", new.name);
                }
            }
            let bound = Bound { listener: new.name.clone(), at, locals: place.locals, sockets };
            if let Err((worker, error)) = self.listen(state, vec![bound]).await {
                log::error!("worker {worker} cannot watch a listening socket: {error}; the others go on");
            }
        }
    }

    /// Ends the sessions of servers that were removed, as their pools say. A server without any may get one still: from an
    /// attempt that took too long, counts nowhere, and goes on.
    pub(super) fn end_removed(&self, before: &Snapshot, next: &Snapshot) {
        let both = (0..).map(ServerId).zip(before.servers.iter().zip(&next.servers));
        let mut removed = Vec::new();
        for (id, (was, is)) in both {
            if was.removed.is_some() || is.removed.is_none() {
                continue;
            }
            let pool = next.pool(is.pool);
            let manner = Manner {
                of: Some(id),
                cause: Cause::ServerRemoved,
                gently: pool.on_removed == OnRemoved::Drain,
                rate: Some(pool.close_rate),
                timeout: pool.drain_timeout,
            };
            if pool.on_removed != OnRemoved::Keep {
                removed.push((format!("server {}/{} was removed", pool.name, is.name), manner));
            }
        }
        if !removed.is_empty() {
            let live = self.myself();
            tokio::spawn(async move { live.close_servers(removed).await });
        }
    }
}

/// What cannot be changed without another process.
fn allowed(old: &Config, new: &Config) -> Result<(), Refusal> {
    let differ = effect::needs_restart(old, new);
    if differ.is_empty() {
        return Ok(());
    }
    Err(refuse(
        RefusalKind::Conflict,
        format!("{} cannot be changed while the process runs; nothing was changed", differ.join(", ")),
        "take the change back and reload, or start the process again",
    ))
}

/// What operators have set, but where the file says something else than before, or the same.
pub(super) fn kept(overrides: &Overrides, old: &Config, new: &Config) -> Overrides {
    let find = |config: &Config, pool: &str, server: &str| {
        let pool = config.pools.iter().find(|one| one.name == pool)?;
        let own = pool.servers.iter().find(|one| one.name == server).map(|one| (one.weight, one.state));
        // One of several that have a name together.
        let named = || pool.named.iter().find(|one| one.name == given_name(server));
        own.or_else(|| named().map(|one| (one.weight, one.state)))
    };
    let has_lists = |config: &Config, pool: &str| {
        config.pools.iter().any(|one| one.name == pool && !one.lists.is_empty())
    };
    let mut kept = Overrides::new();
    for ((pool, server), over) in overrides {
        let (was, is) = match (find(old, pool, server), find(new, pool, server)) {
            (Some(was), Some(is)) => (was, is),
            (None, None) if has_lists(old, pool) && has_lists(new, pool) => {
                // Of a server of a list, about which the file says nothing.
                kept.insert((pool.clone(), server.clone()), *over);
                continue;
            }
            _ => continue,
        };
        let mut over = *over;
        // What is set of one of several differs from what is set of all, not from the file.
        let is_one = given_name(server) != server;
        over.weight = over.weight.filter(|weight| was.0 == is.0 && (is_one || *weight != is.0));
        over.state = over.state.filter(|state| was.1 == is.1 && (is_one || *state != is.1));
        if over.weight.is_some() || over.state.is_some() {
            kept.insert((pool.clone(), server.clone()), over);
        }
    }
    kept
}

/// Compares the addresses, and binds the new ones.
fn plan(state: &State, new: &Config, sets: &Sets) -> Result<Sockets, bind::BindError> {
    let mut wanted = Vec::new();
    let mut moved = Vec::new();
    for (index, listener) in new.listeners.iter().enumerate() {
        for at in &listener.bind {
            if state.shut.keeps(listener, at) {
                continue;
            }
            let is_any_port = at.ip().is_some_and(|at| at.port() == 0);
            let own = |place: &&Place| place.at == *at && (!is_any_port || place.listener == listener.name);
            match state.places.iter().find(own) {
                None => wanted.push((listener, at)),
                Some(place) => {
                    let place_index =
                        state.config.listeners.iter().position(|one| one.name == place.listener);
                    let place_index = place_index.expect("a place belongs to a listener");
                    let old = &state.config.listeners[place_index];
                    let stays = old.name == listener.name
                        && old.backlog == listener.backlog
                        && state.sets.engine_for(place_index) == sets.engine_for(index)
                        && inherited(&old.tcp) == inherited(&listener.tcp);
                    if !stays {
                        let (from, to) = (place.listener.clone(), listener.name.clone());
                        moved.push(Move { from, to, at: at.clone(), had: old.tcp.clone() });
                    }
                }
            }
        }
    }
    let is_wanted = |place: &&Place| {
        let is_any_port = place.at.ip().is_some_and(|at| at.port() == 0);
        let has = |one: &config::Listener| {
            one.bind.contains(&place.at) && (!is_any_port || one.name == place.listener)
        };
        new.listeners.iter().any(has)
    };
    let gone = state.places.iter().filter(|place| !is_wanted(place));
    let gone = gone.map(|place| (place.listener.clone(), place.at.clone())).collect();
    let each = state.sets.each();
    let new = bind::all(&wanted, each, bind::LOOKS_IN_RELOAD, &state.handed)?;
    Ok(Sockets { new, moved, gone })
}

/// What accepted sockets inherit from their listener.
fn inherited(tcp: &Tcp) -> Tcp {
    Tcp { dead_peer: None, rst_on_error: true, ..tcp.clone() }
}

impl Counts for Snapshot {
    fn of_listener(&self, name: &str) -> u32 {
        self.listener_id(name).map_or(0, |id| self.listener(id).connections.count())
    }

    fn of_server(&self, pool: &str, server: &config::Server) -> u32 {
        let Some(pool) = self.pool_named(pool) else { return 0 };
        let own =
            |one: &&Server| one.removed.is_none() && *one.name == *server.name && one.addr == server.addr;
        let mut members = self.members(pool).map(|(_, server)| server);
        members.find(own).map_or(0, |server| server.connections.count())
    }

    fn of_named(&self, pool: &str, name: &str) -> u32 {
        let Some(pool) = self.pool_named(pool) else { return 0 };
        let is_own = |one: &&Server| one.removed.is_none() && given_name(&one.name) == name;
        self.members(pool).map(|(_, one)| one).filter(is_own).map(|one| one.connections.count()).sum()
    }
}

/// Tells of pools that others serve now than before.
fn tell_who_serves(before: &Snapshot, next: &Snapshot) {
    for (number, pool) in (0..).zip(&next.pools).filter(|(_, pool)| !pool.removed) {
        let was = before.pools.get(usize::from(number)).filter(|was| was.name == pool.name && !was.removed);
        let was = was.map_or(Serving::Servers, |was| was.choice.serving);
        // Its first servers, whose names were looked up now, are nothing to tell of.
        let is_first = was == Serving::Nobody && before.members(PoolId(number)).next().is_none();
        if was != pool.choice.serving && !(is_first && pool.choice.serving == Serving::Servers) {
            tell(&pool.name, pool.choice.serving);
        }
    }
}

/// Tells of pools that are not served as they should be when the process begins.
pub(super) fn tell_who_serves_first(snapshot: &Snapshot) {
    for (number, pool) in (0..).zip(&snapshot.pools) {
        // Names are looked up later.
        let has_servers = snapshot.members(PoolId(number)).next().is_some();
        if has_servers && pool.choice.serving != Serving::Servers {
            tell(&pool.name, pool.choice.serving);
        }
    }
}

fn tell(pool: &str, serving: Serving) {
    match serving {
        Serving::Servers => log::info!("pool {pool} is served by its servers again"),
        Serving::Backups => {
            log::warn!("pool {pool} is served by its backup servers: no other takes connections");
        }
        Serving::Down => {
            log::error!("pool {pool} has no server left that is up: those that are not are tried");
        }
        Serving::Nobody => log::error!("pool {pool} has no server left that takes connections"),
    }
}
