use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn conns(most: u32) -> SourceLimits {
    SourceLimits { conns: NonZeroU32::new(most), rate: None }
}

#[test]
fn there_is_room_for_as_many_sources_as_were_asked_for() {
    let sources = Sources::new(100_000);
    let places: Vec<_> = (0..100_000).map(|source| sources.take(Source(source), conns(1), Tick(0))).collect();
    assert!(places.iter().all(|(_, over)| over.is_none()));
    let untracked = places.iter().filter(|(place, _)| place.is_none()).count();
    assert!(untracked <= 100, "{untracked} of 100000 sources found no place");
    // Each is known again.
    let second = (0..100_000).filter(|source| sources.take(Source(*source), conns(1), Tick(0)).1.is_none());
    assert!(second.count() <= 2 * untracked);
}

#[test]
fn a_source_without_a_place_is_let_in_and_takes_none_from_others() {
    let sources = Sources::new(16);
    let places: Vec<_> = (0..500).map(|source| sources.take(Source(source), conns(1), Tick(0)).0).collect();
    let known = places.iter().flatten().count();
    assert!(known <= 32 && places.iter().skip(450).any(Option::is_none), "{known} places");
    assert_eq!(sources.held(), known as u64);
    places.into_iter().flatten().for_each(|place| sources.give(place));
    assert_eq!(sources.held(), 0);
    // And now there is room.
    assert!(sources.take(Source(1_000), conns(1), Tick(0)).0.is_some());
}

#[test]
fn who_owes_most_is_forgotten_last() {
    let sources = Sources::new(16);
    let limits = SourceLimits { conns: None, rate: Some(Rate::new(1, 100)) };
    let (debtor, now) = (Source(7), Tick(0));
    for _ in 0..100 {
        let (place, over) = sources.take(debtor, limits, now);
        assert_eq!(over, None);
        sources.give(place.unwrap());
    }
    // More sources than there are places, none of which owes so much.
    for source in 1_000..3_000 {
        let (place, over) = sources.take(Source(source), limits, now);
        assert_eq!(over, None);
        sources.give(place.unwrap());
    }
    let (place, over) = sources.take(debtor, limits, now);
    assert_eq!(over, Some(Over::Rate));
    sources.give(place.unwrap());
}

#[test]
fn what_another_source_owes_is_not_inherited() {
    let sources = Sources::new(16);
    let limits = SourceLimits { conns: None, rate: Some(Rate::new(1, 1)) };
    let over = (0..2_000).filter(|source| {
        let (place, over) = sources.take(Source(*source), limits, Tick(0));
        sources.give(place.unwrap());
        over.is_some()
    });
    // One in 4,096 has the mark of whose slot it takes.
    assert!(over.count() <= 5);
}

proptest! {
    /// As a map from sources to counts, where nothing is forgotten.
    #[test]
    fn connections_are_counted_as_in_a_map(steps in prop::collection::vec((0..6_u128, any::<bool>()), 0..200)) {
        let sources = Sources::new(64);
        let mut model: HashMap<u128, Vec<Place>> = HashMap::new();
        for (source, comes) in steps {
            let places = model.entry(source).or_default();
            if comes {
                let (place, over) = sources.take(Source(source), conns(3), Tick(0));
                let place = place.expect("there is room for six");
                prop_assert_eq!(over.is_some(), places.len() >= 3);
                if over.is_some() {
                    sources.give(place);
                } else {
                    places.push(place);
                }
            } else if let Some(place) = places.pop() {
                sources.give(place);
            }
        }
        prop_assert_eq!(sources.held(), model.values().map(|places| places.len() as u64).sum::<u64>());
    }
}
