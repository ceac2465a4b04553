//! The power of two choices: of two servers drawn at random, the one with less to do.
//!
//! M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (IEEE TPDS 12, 2001): almost as
//! even as looking at all of them, and, unlike that, without everybody running to the same one.

use super::{Loads, Pick, ServerId};

/// What times are too short by that are counted in whole milliseconds, on average. Among servers that are reached and answer
/// within one, it leaves the decision to their connections.
const HALF_TICK_MS: f32 = 0.5;

/// The servers of a pool by weight.
#[derive(Clone, Debug)]
pub struct TwoChoices {
    /// In the order of their ids.
    servers: Box<[ServerId]>,
    /// Where each server's share of the weights ends: the sum of its own weight and all before it.
    ends: Box<[u32]>,
}

impl TwoChoices {
    /// A choice among servers with their weights. A weight of 0 is never drawn.
    #[must_use]
    pub fn new(servers: &[(ServerId, u16)]) -> Self {
        let mut servers: Vec<(ServerId, u16)> =
            servers.iter().copied().filter(|(_, weight)| *weight > 0).collect();
        servers.sort_unstable_by_key(|(server, _)| server.0);
        let ends = servers.iter().scan(0_u32, |sum, (_, weight)| {
            *sum = sum.saturating_add(u32::from(*weight));
            Some(*sum)
        });
        Self { ends: ends.collect(), servers: servers.iter().map(|(server, _)| *server).collect() }
    }

    /// Draws two servers that are not in `tried`, each as often as its weight says, and takes the one with
    /// fewer connections for its weight. `random` has 64 random bits. Where both are full, which `load` tells by `None`,
    /// it is the best of all that are not.
    #[must_use]
    pub fn pick(&self, tried: &[ServerId], random: u64, load: impl Fn(ServerId) -> Option<u32>) -> Pick {
        let Some(drawn) = self.draw_two(tried, random) else { return Pick::None };
        let best = self.best(drawn.into_iter().flatten(), &load);
        let best = best.or_else(|| self.best(self.all_but(tried), &load));
        best.map_or(Pick::Full, Pick::Server)
    }

    /// As [`TwoChoices::pick`], but it takes the one for which the time to reach it and to get its answer, times its connections, is
    /// shorter for its weight.
    #[must_use]
    pub fn pick_sooner(&self, tried: &[ServerId], random: u64, loads: &impl Loads) -> Pick {
        let Some(drawn) = self.draw_two(tried, random) else { return Pick::None };
        let best = self.soonest(drawn.into_iter().flatten(), loads);
        let best = best.or_else(|| self.soonest(self.all_but(tried), loads));
        best.map_or(Pick::Full, Pick::Server)
    }

    /// Draws one server that is not in `tried`, as often as its weight says. `random` has 64 random bits. Where it is full it
    /// is the next of all that are not.
    #[must_use]
    pub fn pick_any(&self, tried: &[ServerId], random: u64, has_room: impl Fn(ServerId) -> bool) -> Pick {
        let Some(one) = self.draw(&Excluded::new(tried), random >> 32) else { return Pick::None };
        if has_room(one) {
            return Pick::Server(one);
        }
        let (before, from) = self.servers.split_at(self.servers.partition_point(|server| server.0 < one.0));
        let mut left = from.iter().chain(before).filter(|server| !tried.contains(server));
        left.find(|server| has_room(**server)).map_or(Pick::Full, |server| Pick::Server(*server))
    }

    /// Two different servers that are not in `tried`, or one where there is no other; `None` where there is none.
    fn draw_two(&self, tried: &[ServerId], random: u64) -> Option<[Option<ServerId>; 2]> {
        let mut out = Excluded::new(tried);
        let one = self.draw(&out, random >> 32)?;
        out.add(one);
        Some([Some(one), self.draw(&out, random & 0xffff_ffff)])
    }

    fn all_but<'a>(&'a self, tried: &'a [ServerId]) -> impl Iterator<Item = ServerId> + 'a {
        self.servers.iter().copied().filter(|server| !tried.contains(server))
    }

    /// The first of those that answer soonest for their connections and their weight; `None` when all are full. What is not
    /// known of one is taken to be as with the one that it is compared with.
    fn soonest(&self, servers: impl Iterator<Item = ServerId>, loads: &impl Loads) -> Option<ServerId> {
        type Seen = (ServerId, u32, [Option<f32>; 2]);
        let known =
            servers.filter_map(|server| Some((server, loads.load(server)?, loads.latency_ms(server))));
        // Connections for each unit of weight, and one more of the mean weight of both, compared without dividing: without that one
        // a server at rest would be near whatever its time is; if it had the server's own weight, the heavier of two at rest
        // would always win, though it is drawn more often already.
        let cost = |(server, load, own): Seen, (against, _, others): Seen| {
            let times = own.into_iter().zip(others).map(|(own, other)| own.or(other).unwrap_or(0.0));
            let time = f64::from(times.sum::<f32>() + HALF_TICK_MS);
            let [own, other] = [server, against].map(|one| f64::from(self.weight(one)));
            time * (f64::from(load) * other * (own + other) + 2.0 * own * other)
        };
        let sooner = |one, other| if cost(one, other) <= cost(other, one) { one } else { other };
        known.reduce(sooner).map(|(server, ..)| server)
    }

    /// The first of those with the fewest connections for their weight; `None` when all are full.
    fn best(
        &self,
        servers: impl Iterator<Item = ServerId>,
        load: &impl Fn(ServerId) -> Option<u32>,
    ) -> Option<ServerId> {
        let loaded = servers.filter_map(|server| Some((server, load(server)?)));
        // For each unit of weight, compared without dividing. The one that is to come is not counted: of two at rest the one that
        // was drawn first is taken, and that is a matter of weight already.
        let cost = |(_, load): (ServerId, u32), (against, _): (ServerId, u32)| {
            u64::from(load) * u64::from(self.weight(against))
        };
        let less = |one, other| if cost(one, other) <= cost(other, one) { one } else { other };
        loaded.reduce(less).map(|(server, _)| server)
    }

    /// Draws one server by weight among those that are not excluded; `random` has 32 bits.
    fn draw(&self, excluded: &Excluded, random: u64) -> Option<ServerId> {
        let total = u64::from(*self.ends.last()?);
        let left = total - excluded.iter().map(|server| u64::from(self.weight(server))).sum::<u64>();
        if left == 0 {
            return None;
        }
        // A place among the shares that are left, then the same place with the excluded shares put back,
        // from the lowest to the highest.
        let mut place = (random * left) >> 32;
        for server in excluded.iter() {
            let (start, end) = self.share(server);
            if place >= u64::from(start) {
                place += u64::from(end - start);
            }
        }
        let index = self.ends.partition_point(|end| u64::from(*end) <= place);
        self.servers.get(index).copied()
    }

    /// A server that is not here, since the configuration has changed meanwhile, has none.
    fn share(&self, server: ServerId) -> (u32, u32) {
        match self.servers.binary_search_by_key(&server.0, |server| server.0) {
            Ok(index) => (if index == 0 { 0 } else { self.ends[index - 1] }, self.ends[index]),
            Err(_) => (0, 0),
        }
    }

    fn weight(&self, server: ServerId) -> u32 {
        let (start, end) = self.share(server);
        end - start
    }
}

/// Servers that must not be drawn, in the order of their ids, without an allocation.
struct Excluded {
    servers: [ServerId; Self::MOST],
    count: usize,
}

impl Excluded {
    /// As many as a client can have tried, and the first of the two choices.
    const MOST: usize = super::TRIED_MAX + 1;

    fn new(tried: &[ServerId]) -> Self {
        let mut excluded = Self { servers: [ServerId(0); Self::MOST], count: 0 };
        tried.iter().for_each(|server| excluded.add(*server));
        excluded
    }

    fn add(&mut self, server: ServerId) {
        self.servers[self.count] = server;
        self.count += 1;
        self.servers[..self.count].sort_unstable_by_key(|server| server.0);
    }

    fn iter(&self) -> impl Iterator<Item = ServerId> {
        self.servers[..self.count].iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Random bits that are the same in every run.
    fn random(seed: u64) -> u64 {
        crate::balance::random(seed)
    }

    /// Servers of consecutive ids.
    fn from(first: u32, weights: &[u16]) -> Vec<(ServerId, u16)> {
        (first..).map(ServerId).zip(weights.iter().copied()).collect()
    }

    fn shares(weights: &[u16], tried: &[ServerId], load: impl Fn(ServerId) -> u32) -> Vec<u32> {
        let choices = TwoChoices::new(&from(5, weights));
        let mut shares = vec![0; weights.len()];
        for seed in 0..10_000 {
            if let Pick::Server(server) = choices.pick(tried, random(seed), |server| Some(load(server))) {
                shares[(server.0 - 5) as usize] += 1;
            }
        }
        shares
    }

    #[test]
    fn of_two_servers_the_less_loaded_always_wins() {
        assert_eq!(shares(&[1, 1], &[], |server| server.0), [10_000, 0]);
        assert_eq!(shares(&[1, 1], &[], |server| 9 - server.0), [0, 10_000]);
    }

    /// Connections and times by the place of a server, whose ids begin with 5.
    struct Seen<'a>(&'a [(u32, [Option<f32>; 2])]);

    impl Loads for Seen<'_> {
        fn load(&self, server: ServerId) -> Option<u32> {
            Some(self.0[(server.0 - 5) as usize].0)
        }

        fn latency_ms(&self, server: ServerId) -> [Option<f32>; 2] {
            self.0[(server.0 - 5) as usize].1
        }
    }

    /// How often each is picked, with its connections and the time to reach it.
    fn sooner(weights: &[u16], seen: &[(u32, Option<f32>)]) -> Vec<u32> {
        let seen: Vec<_> = seen.iter().map(|(load, connect)| (*load, [*connect, None])).collect();
        answers_sooner(weights, &seen)
    }

    /// The same with the time until it answers, too.
    fn answers_sooner(weights: &[u16], seen: &[(u32, [Option<f32>; 2])]) -> Vec<u32> {
        let choices = TwoChoices::new(&from(5, weights));
        let mut shares = vec![0; weights.len()];
        for seed in 0..10_000 {
            if let Pick::Server(server) = choices.pick_sooner(&[], random(seed), &Seen(seen)) {
                shares[(server.0 - 5) as usize] += 1;
            }
        }
        shares
    }

    #[test]
    fn who_is_reached_sooner_wins_until_it_has_more_to_do() {
        assert_eq!(sooner(&[1, 1], &[(0, Some(20.0)), (0, Some(1.0))]), [0, 10_000]);
        // 13 times 1.5 is less than 20.5, and 14 times is more.
        assert_eq!(sooner(&[1, 1], &[(0, Some(20.0)), (12, Some(1.0))]), [0, 10_000]);
        assert_eq!(sooner(&[1, 1], &[(0, Some(20.0)), (13, Some(1.0))]), [10_000, 0]);
        // One of the mean weight is 2/3 of a connection for each unit: 1.5 times (8 + 2/3) is less than 20.5 times 2/3, and 1.5 times
        // (8.5 + 2/3) is more.
        assert_eq!(sooner(&[1, 2], &[(0, Some(20.0)), (16, Some(1.0))]), [0, 10_000]);
        assert_eq!(sooner(&[1, 2], &[(0, Some(20.0)), (17, Some(1.0))]), [10_000, 0]);
        // At rest and as near, they are drawn by weight.
        let shares = sooner(&[1, 3], &[(0, Some(1.0)), (0, Some(1.0))]);
        assert!((2_400..2_600).contains(&shares[0]), "{shares:?}");
    }

    #[test]
    fn without_times_or_with_none_below_a_millisecond_connections_decide() {
        for time in [None, Some(0.0)] {
            assert_eq!(sooner(&[1, 1], &[(3, time), (2, time)]), [0, 10_000]);
        }
        assert_eq!(sooner(&[1, 1], &[(3, Some(50.0)), (2, None)]), [0, 10_000]);
        assert_eq!(sooner(&[1, 1], &[(3, None), (4, Some(50.0))]), [10_000, 0]);
    }

    #[test]
    fn what_counts_is_the_time_to_reach_a_server_and_to_get_its_answer_together() {
        let near_and_slow = (0, [Some(1.0), Some(90.0)]);
        let far_and_fast = (0, [Some(20.0), Some(2.0)]);
        assert_eq!(answers_sooner(&[1, 1], &[near_and_slow, far_and_fast]), [0, 10_000]);
        assert_eq!(answers_sooner(&[1, 1], &[far_and_fast, near_and_slow]), [10_000, 0]);
        // Four times 22.5 is less than 91.5, and five times is more.
        let busy = |load| (load, far_and_fast.1);
        assert_eq!(answers_sooner(&[1, 1], &[near_and_slow, busy(3)]), [0, 10_000]);
        assert_eq!(answers_sooner(&[1, 1], &[near_and_slow, busy(4)]), [10_000, 0]);
        // Of whom no answer is known, only the way counts.
        let far_and_unknown = (0, [Some(20.0), None]);
        assert_eq!(answers_sooner(&[1, 1], &[near_and_slow, far_and_unknown]), [10_000, 0]);
        let near_and_unknown = (0, [Some(1.0), None]);
        assert_eq!(answers_sooner(&[1, 1], &[near_and_unknown, far_and_fast]), [10_000, 0]);
    }

    proptest! {
        /// Of two servers, that one is picked for which time, times connections, is shorter for its weight, whatever is known.
        #[test]
        fn the_shorter_of_two_products_wins_whatever_is_known(
            weights in prop::array::uniform2(1_u16..10),
            loads in prop::array::uniform2(0_u32..1_000),
            times in prop::array::uniform2(prop::array::uniform2(prop::option::of(0_u16..5_000))),
            seed in any::<u64>(),
        ) {
            let seen = [0, 1].map(|one: usize| (loads[one], times[one].map(|time| time.map(f32::from))));
            let choices = TwoChoices::new(&from(5, &weights));
            let picked = choices.pick_sooner(&[], random(seed), &Seen(&seen));
            let cost = |one: usize| {
                let time = |part: usize| times[one][part].or(times[1 - one][part]).unwrap_or(0);
                let half_ms = 1 + 2 * (u64::from(time(0)) + u64::from(time(1)));
                let [own, other] = [weights[one], weights[1 - one]].map(u64::from);
                half_ms * (u64::from(loads[one]) * other * (own + other) + 2 * own * other)
            };
            let Pick::Server(ServerId(id @ (5 | 6))) = picked else { panic!("{picked:?}") };
            let one = id as usize - 5;
            prop_assert!(cost(one) <= cost(1 - one), "{picked:?} of {seen:?} {weights:?}");
        }
    }

    #[test]
    fn load_counts_by_weight() {
        // 3 connections on weight 4 leave more room than 1 on weight 1.
        assert_eq!(shares(&[4, 1], &[], |server| if server.0 == 5 { 3 } else { 1 }), [10_000, 0]);
    }

    #[test]
    fn the_most_loaded_of_many_is_never_taken_and_the_least_often() {
        let shares = shares(&[1, 1, 1, 1], &[], |server| server.0);
        assert_eq!(shares[3], 0);
        // The least loaded is one of the two in half of all draws of two out of four.
        assert!((4_800..5_200).contains(&shares[0]), "{shares:?}");
    }

    #[test]
    fn tried_servers_and_weight_zero_are_never_drawn() {
        let shares = shares(&[3, 0, 2, 7, 1], &[ServerId(8), ServerId(5)], |_| 0);
        assert_eq!((shares[0], shares[1], shares[3]), (0, 0, 0));
        assert!((6_500..6_830).contains(&shares[2]) && shares[2] + shares[4] == 10_000, "{shares:?}");
        let choices = TwoChoices::new(&from(0, &[1, 0]));
        assert_eq!(choices.pick(&[], 0, |_| Some(0)), Pick::Server(ServerId(0)));
        assert_eq!(choices.pick(&[ServerId(0)], u64::MAX, |_| Some(0)), Pick::None);
        assert_eq!(TwoChoices::new(&[]).pick(&[], 0, |_| Some(0)), Pick::None);
    }

    #[test]
    fn one_is_drawn_by_weight_and_those_who_are_full_or_tried_are_passed_over() {
        let choices = TwoChoices::new(&from(0, &[1, 0, 2, 1]));
        let mut shares = [0; 4];
        for seed in 0..100_000 {
            if let Pick::Server(server) = choices.pick_any(&[], random(seed), |_| true) {
                shares[server.0 as usize] += 1;
            }
        }
        println!("random, weights 1, 0, 2 and 1: {shares:?} of 100,000");
        assert!((24_500..25_500).contains(&shares[0]) && (49_400..50_600).contains(&shares[2]), "{shares:?}");
        assert_eq!(shares[1], 0);
        for seed in 0..100 {
            let only_two = |server: ServerId| server.0 == 2;
            assert_eq!(choices.pick_any(&[], random(seed), only_two), Pick::Server(ServerId(2)));
            assert_eq!(choices.pick_any(&[ServerId(2)], random(seed), only_two), Pick::Full);
        }
        assert_eq!(choices.pick_any(&[0, 2, 3].map(ServerId), 0, |_| true), Pick::None);
    }

    #[test]
    fn full_servers_are_passed_over_as_long_as_one_is_not() {
        let choices = TwoChoices::new(&from(0, &[1, 4, 1, 2]));
        for seed in 0..100 {
            let only_two = |server: ServerId| (server.0 == 2).then_some(9);
            assert_eq!(choices.pick(&[], random(seed), only_two), Pick::Server(ServerId(2)));
            assert_eq!(choices.pick(&[ServerId(2)], random(seed), only_two), Pick::Full);
            assert_eq!(choices.pick(&[], random(seed), |_| None), Pick::Full);
        }
    }

    #[test]
    fn ids_need_neither_order_nor_neighbours() {
        let choices = TwoChoices::new(&[(ServerId(900), 1), (ServerId(3), 2), (ServerId(40), 0)]);
        for seed in 0..100 {
            let picked = choices.pick(&[ServerId(3), ServerId(77)], random(seed), |_| Some(0));
            assert_eq!(picked, Pick::Server(ServerId(900)), "77 was there before and is not known any more");
        }
    }

    #[test]
    fn draws_stay_in_range_at_the_extremes() {
        let choices = TwoChoices::new(&from(0, &[u16::MAX; 65_535]));
        for random in [0, u64::MAX, u64::from(u32::MAX), 1 << 63] {
            let picked = choices.pick(&[ServerId(0), ServerId(65_534)], random, |_| Some(0));
            assert!(matches!(picked, Pick::Server(ServerId(1..65_534))), "{picked:?}");
        }
    }

    #[test]
    fn at_rest_the_shares_are_those_of_the_weights() {
        let shares = shares(&[1, 1, 2], &[], |_| 0);
        assert!((2_400..2_600).contains(&shares[0]) && (4_850..5_150).contains(&shares[2]), "{shares:?}");
    }
}
