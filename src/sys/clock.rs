//! The only place that reads a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::tick::Tick;

/// The process's clocks. Copies agree with each other: they count from the same start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins to count; once in a process, and copied to whoever needs the time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the room that reads the clock for the others")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Whole milliseconds since the start, rounded down. Never goes back.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The time of day, in milliseconds since the beginning of 1970 in UTC; negative before. It jumps
    /// when somebody sets the system's clock, so it is for showing only.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the room that reads the clock for the others")]
    pub fn wall_ms(&self) -> i64 {
        let ms = |wait: std::time::Duration| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => ms(since),
            Err(before) => -ms(before.duration()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_clocks_move_on_together() {
        let clock = Clock::start();
        let (tick, wall_ms) = (clock.now(), clock.wall_ms());
        std::thread::sleep(Duration::from_millis(30));
        assert!(clock.now().since(tick) >= Duration::from_millis(29));
        assert!(clock.wall_ms() - wall_ms >= 29);
    }

    #[test]
    fn copies_count_from_the_same_start() {
        let clock = Clock::start();
        let copy = clock;
        std::thread::sleep(Duration::from_millis(5));
        assert!(copy.now() >= Tick(5));
        assert!(clock.now().since(copy.now()) < Duration::from_secs(5));
    }

    #[test]
    fn the_wall_clock_is_in_this_century() {
        let year_2020_ms = 1_577_836_800_000;
        assert!(Clock::start().wall_ms() > year_2020_ms);
    }
}
