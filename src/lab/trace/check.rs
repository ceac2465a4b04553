//! Whether the kernel saw the system calls that the program has written down.

use std::collections::{BTreeMap, BTreeSet};

use super::stage::Stage;
use crate::lab::results::Count;
use crate::lab::tracer::Tracer;

/// How often it is looked again when something differs: a timer of the proxy's may have fallen between.
const AGAIN: u32 = 2;

/// Has a request traced and says whether its system calls are `calls`, by name and count.
pub(super) fn check(tracer: &Tracer, stage: &mut Stage, calls: &BTreeMap<String, u64>) -> String {
    let mut found = differences(tracer, stage, calls);
    for _ in 0..AGAIN {
        if found.as_ref().is_ok_and(Vec::is_empty) {
            break;
        }
        found = differences(tracer, stage, calls);
    }
    match found {
        Ok(none) if none.is_empty() => {
            format!("{} saw the same system calls in another request", tracer.name)
        }
        Ok(some) => format!("{} saw others in another request: {}", tracer.name, some.join("; ")),
        Err(error) => format!("not compared with {}: {error:#}", tracer.name),
    }
}

fn differences(
    tracer: &Tracer,
    stage: &mut Stage,
    calls: &BTreeMap<String, u64>,
) -> anyhow::Result<Vec<String>> {
    // Attaching and letting go interrupt the calls that wait then: that is in both, and not in the difference.
    let two = traced(tracer, stage, 2)?;
    let one = traced(tracer, stage, 1)?;
    Ok(compared(calls, &two, &one))
}

fn traced(tracer: &Tracer, stage: &mut Stage, requests: u32) -> anyhow::Result<BTreeMap<String, Count>> {
    let attached = tracer.attach(&[stage.pid()])?;
    for _ in 0..requests {
        stage.request()?;
        stage.rest();
    }
    attached.detach()
}

/// By this, threads wait for a lock that another holds at the moment: by chance, and more often when a tracer stops them.
const BY_CHANCE: &str = "futex";

/// Calls of a request that are not as many as two requests have more than one.
fn compared(
    calls: &BTreeMap<String, u64>,
    two: &BTreeMap<String, Count>,
    one: &BTreeMap<String, Count>,
) -> Vec<String> {
    let of = |counts: &BTreeMap<String, Count>, name: &str| counts.get(name).map_or(0, |count| count.calls);
    let names: BTreeSet<&String> = calls.keys().chain(two.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            (name, calls.get(name).copied().unwrap_or(0), of(two, name).saturating_sub(of(one, name)))
        })
        .filter(|(name, own, traced)| own != traced && *name != BY_CHANCE)
        .map(|(name, own, traced)| format!("{name}: {own} here, {traced} there"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_differ_are_named() {
        let counts = |pairs: &[(&str, u64)]| {
            let count = |calls| Count { calls, ..Count::default() };
            pairs.iter().map(|(name, calls)| ((*name).to_owned(), count(*calls))).collect::<BTreeMap<_, _>>()
        };
        let own = BTreeMap::from([("recvfrom".to_owned(), 2), ("sendto".to_owned(), 2)]);
        let one = counts(&[("recvfrom", 2), ("sendto", 2), ("epoll_wait", 1)]);
        let two = counts(&[("recvfrom", 4), ("sendto", 4), ("epoll_wait", 1)]);
        assert!(compared(&own, &two, &one).is_empty());
        let two = counts(&[("recvfrom", 4), ("sendto", 3), ("epoll_wait", 2), ("futex", 1)]);
        assert_eq!(compared(&own, &two, &one), ["epoll_wait: 0 here, 1 there", "sendto: 2 here, 1 there"]);
    }
}
