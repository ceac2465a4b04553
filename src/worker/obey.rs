//! What a worker does for the control plane, between two looks at its sockets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::command::list_most;
use super::{Ask, Command, Conn, Drain, Listing, Row, Worker};
use crate::engine::Engine;
use crate::path::Path;
use crate::session::{Doing, Input};
use crate::snapshot::{Listener, ListenerId, Pool, Snapshot};
use crate::table::Key;
use crate::tick::Tick;

/// New limits of time are held against so many connections in a millisecond, so that no turn is long for it.
const LOOKS_PER_MS: u64 = 8;

impl<E: Engine> Worker<E> {
    /// Sees to a new snapshot and to commands, if there are any.
    pub(super) fn attend(&mut self) {
        let attention = self.setup.crew.attention();
        if attention == self.attention {
            return;
        }
        self.attention = attention;
        self.refresh();
        while let Ok(command) = self.setup.commands.try_recv() {
            // It may be about something that is in effect only since a moment.
            self.refresh();
            self.obey(command);
            self.settle();
        }
    }

    /// Goes by the snapshot that is in effect.
    pub(super) fn refresh(&mut self) {
        let generation = self.setup.published.generation();
        if generation != self.generation {
            self.generation = generation;
            let current = self.setup.published.current();
            self.adopt(current);
        }
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>) {
        self.engine.adopt(Arc::clone(&snapshot));
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.table.raise_limit(self.snapshot.connections.most() as usize);
        if have_other_limits(&before, &self.snapshot) {
            for (place, key) in (0..).zip(self.table.keys()) {
                let at = self.now.after(Duration::from_millis(1 + place / LOOKS_PER_MS));
                let Some(conn) = self.table.get_mut(key) else { continue };
                conn.session.look_by(at);
                Self::arm(&mut self.timers, key, conn);
            }
        }
    }

    fn obey(&mut self, command: Command<E::Listener>) {
        match command {
            Command::Listen { id, socket, reply } => {
                let _ = reply.send(self.listen(id, socket));
            }
            Command::Unlisten { id, which, reply } => {
                let sockets = self.engine.unlisten(id, &|socket| which(id, socket), &mut self.events);
                let _ = reply.send(sockets);
            }
            Command::Close { which, reply } => {
                self.close_those(&which);
                let _ = reply.send(());
            }
            Command::List { from, ask, reply } => {
                let _ = reply.send(self.list(from, ask));
            }
            Command::End { keys, of, cause, gently } => {
                for key in keys {
                    let server = self.table.get_mut(key).and_then(|conn| conn.session.server());
                    if of.is_some() && server != of {
                        continue;
                    }
                    let input = if gently { Input::Leave(cause, self.now) } else { Input::Kill(cause) };
                    self.input(key, input);
                }
            }
            Command::Report { reply } => drop(reply.send(())),
        }
    }

    /// Accepts on a socket; where the process ends meanwhile, only those who wait there already.
    fn listen(&mut self, id: ListenerId, socket: E::Listener) -> io::Result<()> {
        if self.drain == Drain::Killed {
            return Ok(());
        }
        self.engine.listen(id, socket)?;
        if self.has_closed() {
            self.close_those(&|_, _| true);
        }
        Ok(())
    }

    /// Lets in who waits on these sockets, and closes them.
    pub(super) fn close_those(&mut self, which: &dyn Fn(ListenerId, &E::Listener) -> bool) {
        // More than may be let in would take the descriptors that those need.
        let limit = &self.snapshot.connections;
        let room = limit.most().saturating_sub(limit.count()) as usize;
        self.engine.close_listeners(which, room, &mut self.events);
        self.settle();
    }

    /// Some connections as they are now. Their bytes are counted on this occasion.
    fn list(&mut self, from: u32, ask: Ask) -> Listing {
        let (keys, next) = self.table.keys_from(from, list_most(ask));
        let rows = keys.into_iter().filter_map(|key| self.row(key, ask)).collect();
        Listing { rows, next }
    }

    fn row(&mut self, key: Key, ask: Ask) -> Option<Row> {
        let Conn { session, io, .. } = self.table.get_mut(key)?;
        let sight = self.engine.look(io);
        let paths = if ask == Ask::Nothing { [None; 2] } else { self.engine.paths(io) };
        if ask == Ask::Sample && session.doing() == Doing::Relaying {
            session.count_paths(paths, &self.snapshot);
        }
        if let Some(sight) = &sight {
            session.see(self.now, sight.progress);
            session.count_bytes(sight.progress.moved, &self.snapshot);
        }
        let doing = session.doing();
        Some(Row {
            key,
            id: session.id(),
            listener: session.listener(),
            client: session.client(),
            server: session.server(),
            doing,
            half_closed: sight.is_some_and(|sight| sight.progress.waiting_for.is_some()),
            began: session.began(),
            now: self.now,
            tries: session.tries(),
            redispatched: session.redispatched(),
            connect_ms: session.connect_ms(),
            moved: session.moved(),
            quiet_since: if doing == Doing::Relaying {
                quiet_since(self.now, &paths, session.quiet_since())
            } else {
                None
            },
            paths,
        })
    }
}

/// Whether connections that are there may have to end at another time.
fn have_other_limits(before: &Snapshot, now: &Snapshot) -> bool {
    let of_listener = |one: &Listener| (one.timeouts, one.dead_peer);
    let of_pool = |pool: &Pool| pool.tcp.dead_peer;
    before.listeners.iter().map(of_listener).ne(now.listeners.iter().map(of_listener))
        || before.pools.iter().map(of_pool).ne(now.pools.iter().map(of_pool))
}

/// The kernel knows it exactly; who was only looked at now and then was quiet for at least so long.
fn quiet_since(now: Tick, paths: &[Option<Path>; 2], seen: Option<Tick>) -> Option<Tick> {
    let told = paths.iter().flatten().map(|path| path.quiet_ms).min();
    told.map_or(seen, |ms| Some(Tick(now.0.saturating_sub(u64::from(ms)))))
}
