//! What a worker does for the control plane, between two looks at its sockets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::command::{WORK_PER_TURN, list_most};
use super::{Ask, Command, Conn, Drain, Listing, Row, Worker};
use crate::engine::Engine;
use crate::path::Path;
use crate::session::{Doing, Input};
use crate::snapshot::{Listener, ListenerId, Pool, Snapshot};
use crate::table::Key;
use crate::tick::Tick;

/// New limits of time are held against so many connections in a millisecond, so that no turn is long for it.
const LOOKS_PER_MS: u64 = 8;

/// The looks that one turn arranges for: of so many slots of the table.
const SLOTS_PER_TURN: usize = 256;

/// Connections that are still to be held against new limits of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Review {
    /// Those from this slot on.
    from: u32,
    /// When the limits came.
    began: Tick,
    /// Those that have their turn already.
    arranged: u64,
}

impl<E: Engine> Worker<E> {
    /// Sees to a new snapshot and to commands, if there are any.
    pub(super) fn attend(&mut self) {
        let attention = self.setup.crew.attention();
        if attention != self.attention || self.behind {
            self.attention = attention;
            self.refresh();
            self.obey_some();
        }
        self.review_some();
    }

    /// Does what was asked, and leaves to the next turn what is more than one should do.
    fn obey_some(&mut self) {
        let mut done = 0;
        while done < WORK_PER_TURN {
            let Ok(command) = self.setup.commands.try_recv() else {
                self.behind = false;
                return;
            };
            done += command.work();
            // It may be about something that is in effect only since a moment.
            self.refresh();
            // What has ended by that is known before it is ended by the command.
            self.settle();
            self.obey(command);
            self.settle();
        }
        self.behind = true;
    }

    /// Whether there is something to be done for the control plane, whatever the kernel tells.
    pub(super) fn has_arrears(&self) -> bool {
        self.behind || self.review.is_some() || self.parting.is_some()
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
        self.change_rows();
        if have_other_limits(&before, &self.snapshot) {
            self.review = Some(Review { from: 0, began: self.now, arranged: 0 });
        }
    }

    /// Has some connections looked at soon, one after the other.
    fn review_some(&mut self) {
        let Some(Review { from, began, mut arranged }) = self.review else { return };
        let (keys, next) = self.table.keys_from(from, SLOTS_PER_TURN);
        for key in keys {
            let at = began.after(Duration::from_millis(1 + arranged / LOOKS_PER_MS));
            arranged += 1;
            let Some(conn) = self.table.get_mut(key) else { continue };
            conn.session.look_by(at);
            Self::arm(&mut self.timers, key, conn);
        }
        self.review = next.map(|from| Review { from, began, arranged });
    }

    fn obey(&mut self, command: Command<E::Listener>) {
        match command {
            Command::Listen { id, socket, reply } => {
                if let Err(Err(error)) = reply.send(self.listen(id, socket)) {
                    self.cannot_listen(id, &error);
                }
            }
            Command::Unlisten { id, which, reply } => {
                let sockets = self.engine.unlisten(id, &|socket| which(id, socket), &mut self.events);
                // Nobody waits for them any more, and closing them would reset who waits there.
                for socket in reply.send(sockets).err().into_iter().flatten() {
                    if let Err(error) = self.listen(id, socket) {
                        self.cannot_listen(id, &error);
                    }
                }
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

    fn cannot_listen(&self, id: ListenerId, error: &io::Error) {
        let name = &self.snapshot.listener(id).name;
        log::error!("listener {name}: cannot watch a listening socket: {error}; it was closed");
    }

    /// Lets in who waits on these sockets, and closes them.
    pub(super) fn close_those(&mut self, which: &dyn Fn(ListenerId, &E::Listener) -> bool) {
        // More than may be let in would take the descriptors that those need.
        let limit = &self.snapshot.connections;
        let room = limit.most().saturating_sub(limit.count()) as usize;
        self.engine.close_listeners(which, room, &mut self.events);
        self.settle();
    }

    /// Some connections as they are now.
    fn list(&mut self, from: u32, ask: Ask) -> Listing {
        let (keys, next) = self.table.keys_from(from, list_most(ask));
        let rows = keys.into_iter().filter_map(|key| self.row(key, ask)).collect();
        Listing { rows, next }
    }

    /// A connection as it is now. Its bytes are counted on this occasion.
    pub(super) fn row(&mut self, key: Key, ask: Ask) -> Option<Row> {
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
            pool: session.pool(&self.snapshot),
            client: session.client(),
            heard: session.heard().cloned(),
            server: session.server(),
            doing,
            half_closed: sight.is_some_and(|sight| sight.progress.waiting_for.is_some()),
            began: session.began(),
            now: self.now,
            tries: session.tries(),
            redispatched: session.redispatched(),
            queue_ms: session.queue_ms(),
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
    let of_listener = |one: &Listener| {
        let of_pools: Vec<_> = one.leads.all().map(|led| (led.pool, led.timeouts)).collect();
        (of_pools, one.dead_peer)
    };
    let of_pool = |pool: &Pool| pool.tcp.dead_peer;
    before.listeners.iter().map(of_listener).ne(now.listeners.iter().map(of_listener))
        || before.pools.iter().map(of_pool).ne(now.pools.iter().map(of_pool))
}

/// The kernel knows it exactly; who was only looked at now and then was quiet for at least so long.
fn quiet_since(now: Tick, paths: &[Option<Path>; 2], seen: Option<Tick>) -> Option<Tick> {
    let told = paths.iter().flatten().map(|path| path.quiet_ms).min();
    told.map_or(seen, |ms| Some(Tick(now.0.saturating_sub(u64::from(ms)))))
}
