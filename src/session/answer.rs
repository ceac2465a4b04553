//! How long a server takes to answer, where its pool chooses by that: from the last bytes that were taken for it before its first
//! ones came, or from its connection if it speaks first. What a client takes to think or to say it counts for nothing.

use std::time::Duration;

use super::{Context, Session};
use crate::relay::{End, Side};
use crate::snapshot::Server;

/// The longest wait for an answer that counts: farther away is only who has failed.
const WAITED_MOST: Duration = Duration::from_secs(60);

impl Session {
    /// Bytes of a peer were taken, the server's for the first time.
    pub(super) fn spoke(&mut self, side: Side, cx: Context<'_>) {
        self.unanswered = side == Side::Client;
        match (side, self.server.and_then(|server| cx.snapshot.server(server).latency.as_ref())) {
            (Side::Client, _) => self.tried_at = cx.now,
            (Side::Server, Some(latency)) => latency.answer.saw(cx.now, cx.now.since(self.tried_at)),
            (Side::Server, None) => {}
        }
    }

    /// The relay has ended, and the server has said nothing although it was given something: an answer takes as long at least;
    /// one that has ended it itself has failed. That says nothing where no server of the pool has
    /// ever answered: what they do there needs no answer.
    pub(super) fn ended_unanswered(&self, end: End, cx: Context<'_>) {
        let Some(server) = self.server.map(|server| cx.snapshot.server(server)) else { return };
        let Some(latency) = &server.latency else { return };
        let answers =
            |one: &Server| one.latency.as_ref().is_some_and(|own| own.answer.mean_ms(cx.now).is_some());
        if !answers(server) && !cx.snapshot.members(server.pool).any(|(_, one)| answers(one)) {
            return;
        }
        let waited = cx.now.since(self.tried_at);
        match end {
            End::Clean
            | End::Reset { by: Side::Server, .. }
            // How long the client stayed on says nothing of the server.
            | End::HalfIdle { waiting_for: Side::Client } => latency.failed(cx.now, Duration::ZERO),
            End::Reset { .. } | End::HalfIdle { .. } | End::Idle | End::Drained | End::Killed => {
                latency.answer.takes_at_least(cx.now, waited.min(WAITED_MOST));
            }
        }
    }
}
