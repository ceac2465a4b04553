//! A listener of the next snapshot.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Leads, Limit, Listener, Pool, PoolId, ReadsHello, Routes, put};
use crate::admission::Admission;
use crate::config;

/// Puts a listener of `config`, whose pools have these ids among `pools`, in its place, with the counts of the one that is there
/// if it has its name.
pub(super) fn put_listener(
    all: &mut Vec<Listener>,
    index: usize,
    listener: &config::Listener,
    config: &config::Config,
    (ids, pools): (&[PoolId], &[Pool]),
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
        leads: Leads::new(listener, config, (ids, pools), own.map(|own| &own.leads)),
        routes: Routes::new(listener, ids, own.and_then(|own| own.routes.as_deref())),
        reads_hello: ReadsHello::new(listener, config),
        accept_balance: listener.accept_balance,
        accept_burst: listener.accept_burst,
        at_maxconn: listener.at_maxconn,
        when_no_upstream: listener.when_no_upstream,
        accept_proxy: listener.accept_proxy.clone().map(Arc::new),
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
