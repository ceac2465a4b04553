//! The live connections, piece by piece.

use super::{Live, State, refuse};
use crate::config::{Origin, Server, ServerState, given_name};
use crate::control::Cursor;
use crate::control::model::{Bytes, Connection, Filter, Path, Refusal, RefusalKind, SessionState};
use crate::control::select::Selection;
use crate::path;
use crate::relay::Dir;
use crate::session::Doing;
use crate::snapshot::{Override, Snapshot, override_of};
use crate::table::Key;
use crate::worker::{Ask, Command, Row};

/// A connection and where it is.
pub(super) struct Found {
    pub(super) worker: u16,
    pub(super) key: Key,
    pub(super) row: Row,
    pub(super) connection: Connection,
}

impl Live {
    /// One piece of the walk over all connections.
    pub(super) async fn piece(
        &self,
        selection: &Selection,
        at: Cursor,
        ask: Ask,
    ) -> (Vec<Found>, Option<Cursor>) {
        let (hand, engine) = {
            let state = self.state.lock().await;
            let Some(hand) = state.hands.get(usize::from(at.worker)) else { return (Vec::new(), None) };
            (hand.clone(), state.sets.engine_of(at.worker).name())
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.tell(&hand, at.worker, Command::List { from: at.slot, ask, reply });
        // A worker that has ended has no connection.
        let listing = answer.await.unwrap_or_default();
        let snapshot = self.published.current();
        let found = listing.rows.into_iter().filter_map(|row| {
            let connection = shown(&snapshot, &row, at.worker, engine);
            selection.has(&connection).then_some(Found { worker: at.worker, key: row.key, row, connection })
        });
        let following = Cursor { worker: at.worker + 1, slot: 0 };
        let next = match listing.next {
            Some(slot) => Some(Cursor { slot, ..at }),
            None => (usize::from(following.worker) < self.crew.size()).then_some(following),
        };
        (found.collect(), next)
    }

    /// All connections that are meant, at the time when each worker is asked.
    pub(super) async fn find(&self, selection: &Selection) -> Vec<Found> {
        let (mut all, mut next) = (Vec::new(), Some(Cursor::default()));
        while let Some(at) = next {
            let (found, following) = self.piece(selection, at, Ask::Paths).await;
            all.extend(found);
            next = following;
        }
        all
    }

    /// A filter that makes sense, and names what there is.
    pub(super) async fn select(&self, filter: &Filter) -> Result<Selection, Refusal> {
        let selection = Selection::new(filter)?;
        let snapshot = self.published.current();
        if let Some(name) = selection.listener() {
            known("listener", name, snapshot.listeners.iter().map(|one| &*one.name))?;
        }
        let (pool, server) = selection.server();
        if let Some(name) = pool {
            known("pool", name, snapshot.pools.iter().map(|one| &*one.name))?;
        }
        if let Some(name) = server {
            let of_pool = |id| pool.is_none_or(|pool| *snapshot.pool(id).name == *pool);
            let names = snapshot.servers.iter().filter(|one| of_pool(one.pool)).map(|one| &*one.name);
            let names = names.clone().chain(names.map(given_name));
            known("server", name, names)?;
        }
        Ok(selection)
    }
}

/// That a name is one of those that there are.
pub(super) fn known<'a>(
    what: &str,
    name: &str,
    mut names: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Refusal> {
    if names.clone().any(|one| one == name) {
        return Ok(());
    }
    // What no name can be is not compared with every one of them.
    let near = if name.len() <= 64 { crate::config::nearest(name, names.by_ref()) } else { None };
    let help = match near {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("`tidegate ctl status` shows every {what}"),
    };
    Err(refuse(RefusalKind::NotFound, format!("there is no {what} {name:?}"), &help))
}

/// What a server has, unless something is set of it.
pub(super) struct Given {
    pub(super) weight: u16,
    pub(super) state: ServerState,
    /// It stands in a list, which may say something else at any time.
    pub(super) is_listed: bool,
}

/// What a server of that name has, or all of that name.
pub(super) fn known_server(state: &State, pool: &str, server: &str) -> Result<Given, Refusal> {
    let pools = &state.config.pools;
    known("pool", pool, pools.iter().map(|one| one.name.as_str()))?;
    let of_pool = pools.iter().find(|one| one.name == pool).expect("it is known");
    let named = of_pool.named.iter().map(|one| (one.name.as_str(), one.weight, one.state, false));
    let of_list = |one: &Server| matches!(one.origin, Origin::List(_));
    // What a list calls its servers.
    let listed = of_pool.servers.iter().filter(|one| of_list(one));
    let listed = listed.map(|one| (given_name(&one.name), one.weight, one.state, true));
    let own = of_pool.servers.iter().map(|one| (one.name.as_str(), one.weight, one.state, of_list(one)));
    let mut all = own.chain(named).chain(listed);
    known("server", server, all.clone().map(|(name, ..)| name))?;
    let (_, weight, file, is_listed) = all.find(|(name, ..)| *name == server).expect("it is known");
    let given = given_name(server);
    let over = if given == server { Override::default() } else { override_of(&state.overrides, pool, given) };
    Ok(Given { weight: over.weight.unwrap_or(weight), state: over.state.unwrap_or(file), is_listed })
}

fn shown(snapshot: &Snapshot, row: &Row, worker: u16, engine: &str) -> Connection {
    let listener = snapshot.listener(row.listener);
    let server = row.server.map(|id| snapshot.server(id));
    let pool = server.map_or(row.pool, |server| server.pool);
    let path = |path: Option<path::Path>| {
        path.map(|path| Path { rtt_us: path.rtt_us, retransmits: path.retransmits })
    };
    let ms_since = |tick: crate::tick::Tick| row.now.0.saturating_sub(tick.0);
    Connection {
        id: format!("{:016x}", row.id),
        listener: listener.name.to_string(),
        client: row.client,
        pool: snapshot.pool(pool).name.to_string(),
        server: server.map(|server| server.name.to_string()),
        state: match row.doing {
            Doing::Inspecting => SessionState::Inspecting,
            Doing::Queued => SessionState::Queued,
            Doing::Connecting => SessionState::Connecting,
            Doing::Relaying if row.half_closed => SessionState::HalfClosed,
            Doing::Relaying => SessionState::Relaying,
            Doing::Closing => SessionState::Closing,
        },
        age_ms: ms_since(row.began),
        idle_ms: row.quiet_since.map(ms_since),
        bytes: Bytes { up: row.moved[Dir::Up.index()], down: row.moved[Dir::Down.index()] },
        client_path: path(row.paths[0]),
        server_path: path(row.paths[1]),
        worker,
        engine: engine.to_owned(),
    }
}
