//! A listener of the next snapshot.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Limit, Listener, PoolId, ReadsHello, Routes, put};
use crate::admission::Admission;
use crate::config;

/// Puts a listener of the configuration in its place, with the counts of the one that is there if it has its name.
pub(super) fn put_listener(
    all: &mut Vec<Listener>,
    index: usize,
    (pool, (routes, reads_hello)): (PoolId, (Option<Arc<Routes>>, Option<ReadsHello>)),
    listener: &config::Listener,
    timeouts: config::Timeouts,
) {
    let own = all.get(index).filter(|one| *one.name == *listener.name);
    let most = listener.maxconn.map_or(u32::MAX, NonZeroU32::get);
    let (connections, waiting) = match own {
        Some(own) => (own.connections.with_most(most), own.waiting.clone()),
        None => (Limit::new(most), Limit::new(u32::MAX)),
    };
    let (tally, refusals) = match own {
        Some(own) => (Arc::clone(&own.tally), Arc::clone(&own.refusals)),
        None => Default::default(),
    };
    let listener = Listener {
        name: listener.name.as_str().into(),
        pool,
        routes,
        reads_hello,
        accept_balance: listener.accept_balance,
        accept_burst: listener.accept_burst,
        at_maxconn: listener.at_maxconn,
        when_no_upstream: listener.when_no_upstream,
        accept_proxy: listener.accept_proxy.clone().map(Arc::new),
        timeouts,
        dead_peer: listener.tcp.dead_peer,
        rst_on_error: listener.tcp.rst_on_error,
        keepalive: listener.tcp.keepalive,
        connections,
        waiting,
        rates: [listener.limits.upload, listener.limits.download],
        admission: Admission::new(listener, own.map(|own| &own.admission)),
        tally,
        refusals,
        removed: None,
    };
    put(all, index, listener);
}
