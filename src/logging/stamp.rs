//! Time stamps: RFC 3339, UTC, milliseconds.

use jiff::Timestamp;

use crate::sys::Clock;
use crate::tick::Tick;

/// Both clocks read at one moment, so that ticks become times of day without asking the system again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) tick: Tick,
    pub(super) wall_ms: i64,
}

impl Now {
    /// Reads both clocks.
    pub(super) fn read(clock: &Clock) -> Self {
        Self { tick: clock.now(), wall_ms: clock.wall_ms() }
    }

    /// The time of day at `then`, in milliseconds since 1970; `then` may be a little later than now.
    pub(super) fn wall_ms_at(self, then: Tick) -> i64 {
        self.wall_ms.saturating_sub_unsigned(self.tick.0).saturating_add_unsigned(then.0)
    }
}

/// Writes times of day. Lines come thousands to a second, so the part that only changes every second is
/// kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    second: i64,
    /// `2026-11-23T07:38:00.`; empty before the first stamp.
    prefix: String,
}

impl Stamps {
    /// Appends `2026-11-23T07:38:00.123Z`.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, wall_ms: i64) {
        let second = wall_ms.div_euclid(1000);
        if second != self.second || self.prefix.is_empty() {
            self.second = second;
            self.prefix = prefix(second);
        }
        out.extend_from_slice(self.prefix.as_bytes());
        let ms = wall_ms.rem_euclid(1000);
        for digit in [ms / 100, ms / 10 % 10, ms % 10] {
            out.push(b"0123456789"[digit as usize]);
        }
        out.push(b'Z');
    }
}

/// A moment as the calendar has it. A clock that is set outside the years -9999 to 9999 shows the nearest one inside.
pub(super) fn timestamp(wall_ms: i64) -> Timestamp {
    let nearest = if wall_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(wall_ms).unwrap_or(nearest)
}

/// A second without its `Z` and with the point that milliseconds follow.
fn prefix(second: i64) -> String {
    let mut text = format!("{:.0}", timestamp(second.saturating_mul(1000)));
    text.pop();
    text.push('.');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(wall_ms: i64) -> String {
        let mut out = Vec::new();
        Stamps::default().write(&mut out, wall_ms);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn stamps_are_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(stamp(951_782_399_045), "2000-02-28T23:59:59.045Z");
        assert_eq!(stamp(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(stamp(1_795_419_480_123), "2026-11-23T07:38:00.123Z");
        assert_eq!(stamp(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_clock_outside_the_calendar_shows_its_nearest_end() {
        assert_eq!(stamp(i64::MAX), "9999-12-30T22:00:00.807Z");
        assert!(stamp(i64::MIN).starts_with("-009999-"));
    }

    #[test]
    fn the_kept_second_changes_with_the_second() {
        let mut stamps = Stamps::default();
        let mut out = Vec::new();
        for wall_ms in [999, 1000, 1001, 999] {
            stamps.write(&mut out, wall_ms);
            out.push(b' ');
        }
        let expected = "1970-01-01T00:00:00.999Z 1970-01-01T00:00:01.000Z \
                        1970-01-01T00:00:01.001Z 1970-01-01T00:00:00.999Z ";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn ticks_become_times_of_day_on_both_sides_of_now() {
        let now = Now { tick: Tick(5_000), wall_ms: 1_000_000 };
        assert_eq!(now.wall_ms_at(Tick(5_000)), 1_000_000);
        assert_eq!(now.wall_ms_at(Tick(1_500)), 996_500);
        assert_eq!(now.wall_ms_at(Tick(5_002)), 1_000_002);
    }
}
