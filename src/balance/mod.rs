//! Which server is next. Pure: no socket, no clock; the only shared state is a cursor that every worker
//! advances, once for each connection.

mod rotate;

pub use rotate::Rotate;

use crate::snapshot::ServerId;

/// How a pool chooses among its servers.
#[derive(Debug)]
pub enum Balancer {
    /// Weighted round robin, shared by all workers.
    RoundRobin(Rotate),
}

impl Balancer {
    /// Weighted round robin over consecutive ids from `first`, one for each weight.
    #[must_use]
    pub fn round_robin(first: ServerId, weights: &[u16]) -> Self {
        Self::RoundRobin(Rotate::new(first, weights))
    }

    /// The next server that is not in `tried`, or `None` when no such server takes connections.
    #[must_use]
    pub fn pick(&self, tried: &[ServerId]) -> Option<ServerId> {
        match self {
            Self::RoundRobin(rotate) => rotate.pick(tried),
        }
    }
}
