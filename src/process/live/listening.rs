//! Listeners that listen only while somebody serves their pool (`when_no_upstream = "stop_listening"`): whoever looks from
//! outside, VRRP, anycast or another balancer, sees a port that refuses.

use std::time::Duration;

use super::{Live, Place, State};
use crate::config::{Address, WhenNoUpstream};
use crate::process::bind;
use crate::snapshot::{Serving, Snapshot};
use crate::tick::Tick;

/// How often an address is tried again that another process has taken meanwhile.
const AGAIN: Duration = Duration::from_secs(1);

/// Addresses that are not listened on, since nobody serves.
#[derive(Default)]
pub(super) struct Shut {
    places: Vec<Place>,
    /// When those are tried again that could not be had.
    again: Option<Tick>,
}

impl Shut {
    /// Whether that listener has such an address.
    pub(super) fn has(&self, listener: &str) -> bool {
        self.places.iter().any(|place| place.listener == listener)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Tick> {
        self.again
    }

    /// A reload has bound all that is wanted.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Live {
    /// Stops listening where nobody serves any more, and listens again where somebody does. Connections that are there stay.
    pub(super) async fn mind_listening(&self, state: &mut State) {
        if self.crew.is_draining() {
            state.shut.forget();
            return;
        }
        let snapshot = self.published.current();
        let shut = std::mem::take(&mut state.shut.places);
        let is_unserved = |name: &str| is_unserved(state, &snapshot, name);
        let stops = |place: &&Place| matches!(place.at, Address::Ip(_)) && is_unserved(&place.listener);
        let closing: Vec<Place> = state.places.iter().filter(stops).cloned().collect();
        let (due, still): (Vec<Place>, Vec<Place>) =
            shut.into_iter().partition(|place| !is_unserved(&place.listener));
        state.shut = Shut { places: still, again: None };
        if !closing.is_empty() {
            let gone: Vec<_> =
                closing.iter().map(|place| (place.listener.clone(), place.at.clone())).collect();
            for place in &closing {
                log::warn!("listener {}: stops listening, since nobody serves its pool", place.listener);
            }
            self.close(state, &gone).await;
            state.shut.places.extend(closing);
        }
        for place in due {
            self.listen_again(state, place).await;
        }
    }

    async fn listen_again(&self, state: &mut State, place: Place) {
        let Some(listener) = state.config.listeners.iter().find(|one| one.name == place.listener) else {
            return;
        };
        // Port 0 has become a number, which clients know.
        let local = place.locals.first().unwrap_or(&place.at);
        match bind::all(&[(listener, local)], state.sets.each(), bind::LOOKS_IN_RELOAD, &state.handed) {
            Ok(mut bound) => {
                bound.iter_mut().for_each(|bound| bound.at = place.at.clone());
                if let Err((worker, error)) = self.listen(state, bound).await {
                    log::error!("worker {worker} cannot watch a listening socket: {error}; the others go on");
                }
            }
            Err(error) => {
                log::error!("{error}\n  = it is tried again every {AGAIN:?}");
                state.shut.places.push(place);
                state.shut.again = Some(self.clock.now().after(AGAIN));
            }
        }
    }
}

/// Whether a listener is to stop, since nobody serves its pool.
fn is_unserved(state: &State, snapshot: &Snapshot, name: &str) -> bool {
    let stops = |one: &&crate::config::Listener| {
        one.name == name && one.when_no_upstream == WhenNoUpstream::StopListening
    };
    let id = state.config.listeners.iter().find(stops).and_then(|one| snapshot.listener_id(&one.name));
    id.is_some_and(|id| snapshot.pool(snapshot.listener(id).pool).choice.serving == Serving::Nobody)
}
