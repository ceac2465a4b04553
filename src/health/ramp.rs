//! Slow start: a server that comes into use gets its whole share step by step.

use std::time::Duration;

use crate::tick::Tick;

/// Steps to the whole share. The first is a twentieth of it.
pub const STEPS: u32 = 20;

/// The way to the whole share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    began: Tick,
    length: Duration,
}

impl Ramp {
    /// One that begins now.
    #[must_use]
    pub fn new(now: Tick, length: Duration) -> Self {
        Self { began: now, length }
    }

    /// The step that it is at, 1 to [`STEPS`], at which it is over.
    #[must_use]
    pub fn step(self, now: Tick) -> u32 {
        let done = now.since(self.began).as_millis() * u128::from(STEPS) / self.length.as_millis().max(1);
        u32::try_from(done).unwrap_or(STEPS).saturating_add(1).min(STEPS)
    }

    /// When the next step is due; `None` when it is over.
    #[must_use]
    pub fn next(self, now: Tick) -> Option<Tick> {
        let step = self.step(now);
        let length = u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX);
        // The first millisecond in which it is that step.
        let after = (length / u64::from(STEPS)).saturating_mul(step.into())
            + (length % u64::from(STEPS) * u64::from(step)).div_ceil(u64::from(STEPS));
        (step < STEPS).then(|| Tick(self.began.0.saturating_add(after)))
    }
}

/// The weights of a pool's servers, each at a step of its ramp, in proportion. They are scaled only while one of them is
/// on its way, so that a weight of 1 can be so, too; who has any weight keeps at least 1.
#[must_use]
pub fn shares(weights: &[(u16, u32)]) -> Vec<u16> {
    if weights.iter().all(|(_, step)| *step == STEPS) {
        return weights.iter().map(|(weight, _)| *weight).collect();
    }
    let most = weights.iter().map(|(weight, _)| u32::from(*weight)).max().unwrap_or(1);
    let scale = (u32::from(u16::MAX) / most.max(1)).min(STEPS);
    let share = |(weight, step): &(u16, u32)| match weight {
        0 => 0,
        _ => u16::try_from(u32::from(*weight) * scale * step / STEPS).unwrap_or(u16::MAX).max(1),
    };
    weights.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ramp_has_twenty_steps_of_the_same_length() {
        let ramp = Ramp::new(Tick(1_000), Duration::from_secs(20));
        for (at, step, next) in [
            (1_000, 1, Some(2_000)),
            (1_999, 1, Some(2_000)),
            (2_000, 2, Some(3_000)),
            (11_500, 11, Some(12_000)),
            (19_999, 19, Some(20_000)),
            (20_000, 20, None),
            (900_000, 20, None),
        ] {
            assert_eq!((ramp.step(Tick(at)), ramp.next(Tick(at)).map(|at| at.0)), (step, next), "{at}");
        }
    }

    #[test]
    fn weights_are_scaled_only_while_one_of_them_is_on_its_way() {
        type Steps = &'static [(u16, u32)];
        let cases: [(Steps, &[u16]); 6] = [
            (&[(1, 20), (3, 20), (0, 20)], &[1, 3, 0]),
            (&[(1, 1), (1, 20)], &[1, 20]),
            (&[(1, 10), (2, 20), (0, 5)], &[10, 40, 0]),
            (&[(65_535, 1), (65_535, 20)], &[3_276, 65_535]),
            (&[(1, 1), (65_535, 20)], &[1, 65_535]),
            (&[], &[]),
        ];
        for (weights, expected) in cases {
            assert_eq!(shares(weights), expected, "{weights:?}");
        }
    }

    proptest! {
        #[test]
        fn every_step_comes_at_its_time_and_none_is_left_out(ms in 1..100_000_000_u64, began in 0..1_000_000_u64) {
            let ramp = Ramp::new(Tick(began), Duration::from_millis(ms));
            let (mut now, mut steps) = (Tick(began), 0);
            while let Some(next) = ramp.next(now) {
                prop_assert!(next > now);
                prop_assert!(ramp.step(next) > ramp.step(now));
                prop_assert!(ms < 20 || ramp.step(next) == ramp.step(now) + 1);
                prop_assert!(ms < 20 || ramp.step(Tick(next.0 - 1)) == ramp.step(now));
                now = next;
                steps += 1;
            }
            prop_assert!(steps < STEPS && now.since(Tick(began)) <= Duration::from_millis(ms));
        }

        #[test]
        fn who_is_at_the_same_step_keeps_the_same_proportion(one in 1..3_000_u16, other in 1..3_000_u16, step in 1..20_u32) {
            let shares = shares(&[(one, step), (other, step), (0, 20)]);
            let exact = |weight: u16| u32::from(weight) * step;
            prop_assert_eq!(u32::from(shares[0]), exact(one));
            prop_assert_eq!(u32::from(shares[1]), exact(other));
        }
    }
}
