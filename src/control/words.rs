//! Times and rates as people write them.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config;

/// A whole number with its unit, more than nothing.
///
/// # Errors
/// What would be right, in words.
pub fn duration(text: &str) -> Result<Duration, String> {
    const WRONG: &str = "a duration is a whole number with a unit: 500ms, 10s, 2m or 1h";
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or(WRONG)?;
    let (number, unit) = text.split_at(unit);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(WRONG.to_owned()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)).ok_or(WRONG)?;
    if ms == 0 {
        return Err("a duration must be longer than nothing, such as 10s".to_owned());
    }
    Ok(Duration::from_millis(ms))
}

/// So many a second: `50/s`.
///
/// # Errors
/// What would be right, in words.
pub fn rate(text: &str) -> Result<NonZeroU32, String> {
    let rate = config::rate(text).and_then(NonZeroU32::new);
    rate.ok_or_else(|| "a rate is a whole number a second, from 1/s to 1000000/s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_some_length() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in
            ["", "10", "s", "0s", "-1s", "1.5s", "10 s", "10d", "99999999999999999999h", "9999999999999999h"]
        {
            assert!(duration(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn rates_are_by_the_second() {
        assert_eq!(rate("50/s").map(NonZeroU32::get), Ok(50));
        for wrong in ["", "50", "/s", "0/s", "-1/s", "1.5/s", "50/m", "99999999999/s"] {
            assert!(rate(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
