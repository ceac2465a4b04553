//! Listeners that listen only while somebody serves their pool (`when_no_upstream = "stop_listening"`): whoever looks from
//! outside, VRRP, anycast or another balancer, sees a port that refuses.

use std::time::Duration;

use super::{Live, Place, State};
use crate::config::{Address, Config, Listener, WhenNoUpstream};
use crate::process::bind;
use crate::snapshot::{Serving, Snapshot};
use crate::sys;
use crate::tick::Tick;

/// How often an address is tried again that another process has taken meanwhile.
const AGAIN: Duration = Duration::from_secs(1);

/// Addresses that are not listened on, since nobody serves.
#[derive(Default)]
pub(super) struct Shut(Vec<Closed>);

struct Closed {
    place: Place,
    /// Why it could not be had when somebody served again; none as long as nobody does.
    why: Option<String>,
    /// When it is tried again then.
    again: Option<Tick>,
}

impl Shut {
    /// Why that listener does not listen, as an operator reads it; `None` if it has no such address.
    pub(super) fn why(&self, listener: &str) -> Option<String> {
        let mut own = self.0.iter().filter(|closed| closed.place.listener == listener).peekable();
        own.peek()?;
        let failed: Vec<&str> = own.filter_map(|closed| closed.why.as_deref()).collect();
        Some(if failed.is_empty() { "nobody serves".to_owned() } else { failed.join("; ") })
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When one is tried again.
    pub(super) fn next(&self) -> Option<Tick> {
        self.0.iter().filter_map(|closed| closed.again).min()
    }

    /// Whether this address of a listener is shut, and stays so until somebody serves: a reload leaves it alone.
    pub(super) fn keeps(&self, listener: &Listener, at: &Address) -> bool {
        let is_it = |closed: &Closed| closed.place.listener == listener.name && closed.place.at == *at;
        listener.when_no_upstream == WhenNoUpstream::StopListening && self.0.iter().any(is_it)
    }

    /// Goes by another configuration, which has bound what is not kept.
    pub(super) fn adopt(&mut self, config: &Config) {
        let all = std::mem::take(&mut self.0);
        let is_kept = |closed: &Closed| {
            let own = config.listeners.iter().find(|one| one.name == closed.place.listener);
            own.is_some_and(|own| {
                own.when_no_upstream == WhenNoUpstream::StopListening && own.bind.contains(&closed.place.at)
            })
        };
        self.0 = all.into_iter().filter(is_kept).collect();
    }
}

impl Live {
    /// Stops listening where nobody serves any more, and listens again where somebody does. Connections that are there stay.
    pub(super) async fn mind_listening(&self, state: &mut State) {
        if self.crew.is_draining() {
            // What is shut stays so to the end.
            state.shut.0.iter_mut().for_each(|closed| closed.again = None);
            return;
        }
        let (snapshot, now) = (self.published.current(), self.clock.now());
        let shut = std::mem::take(&mut state.shut.0);
        let is_unserved = |place: &Place| is_unserved(&state.config, &snapshot, &place.listener);
        let stops = |place: &&Place| matches!(place.at, Address::Ip(_)) && is_unserved(place);
        let closing: Vec<Place> = state.places.iter().filter(stops).cloned().collect();
        let is_due = |closed: &Closed| !is_unserved(&closed.place) && closed.again.is_none_or(|at| at <= now);
        let (due, mut still): (Vec<Closed>, Vec<Closed>) = shut.into_iter().partition(is_due);
        // Nothing is due of who stays shut: a time in the past would be due for ever.
        for closed in still.iter_mut().filter(|closed| is_unserved(&closed.place)) {
            (closed.why, closed.again) = (None, None);
        }
        state.shut.0 = still;
        if !closing.is_empty() {
            let gone: Vec<_> =
                closing.iter().map(|place| (place.listener.clone(), place.at.clone())).collect();
            for place in &closing {
                log::warn!("listener {}: stops listening, since nobody serves its pool", place.listener);
            }
            self.close(state, &gone).await;
            state.shut.0.extend(closing.into_iter().map(|place| Closed { place, why: None, again: None }));
        }
        for closed in due {
            self.listen_again(state, closed).await;
        }
    }

    async fn listen_again(&self, state: &mut State, Closed { place, why, .. }: Closed) {
        let Some(listener) = state.config.listeners.iter().find(|one| one.name == place.listener) else {
            return;
        };
        // Port 0 has become a number, which clients know.
        let local = place.locals.first().unwrap_or(&place.at);
        match bind::anew(listener, local, state.sets.each()) {
            Ok(bound) => {
                let bound = bind::Bound { at: place.at, ..bound };
                if let Err((worker, error)) = self.listen(state, vec![bound]).await {
                    log::error!("worker {worker} cannot watch a listening socket: {error}; the others go on");
                }
            }
            Err(error) => {
                // Who holds it is looked for once: that takes its time.
                let why = why.unwrap_or_else(|| {
                    let (cause, help) = sys::why_not_bound(local, &error);
                    log::error!(
                        "listener {}: cannot listen on {local} again: {cause}; it is tried every {AGAIN:?}\n  = help: \
                         {help}",
                        place.listener
                    );
                    format!("{local}: {cause}")
                });
                let again = Some(self.clock.now().after(AGAIN));
                state.shut.0.push(Closed { place, why: Some(why), again });
            }
        }
    }
}

/// Whether a listener is to stop, since nobody serves its pool, or any of those that its routes lead to.
fn is_unserved(config: &Config, snapshot: &Snapshot, name: &str) -> bool {
    let stops = |one: &&Listener| one.name == name && one.when_no_upstream == WhenNoUpstream::StopListening;
    let id = config.listeners.iter().find(stops).and_then(|one| snapshot.listener_id(&one.name));
    let is_unserved = |pool| snapshot.pool(pool).choice.serving == Serving::Nobody;
    id.is_some_and(|id| snapshot.listener(id).leads.pools().all(is_unserved))
}
