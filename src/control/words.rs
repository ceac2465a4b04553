//! Numbers and times as people read them, in as few columns as they need.

use super::model::Certificate;

/// What stands where there is nothing to tell.
pub const NONE: &str = "-";

/// With commas: 1,234,567.
#[must_use]
pub fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One digit behind the point where it tells something.
fn short(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        _ if number < 0.1 => "<0.1".to_owned(),
        _ if number < 9.95 => format!("{number:.1}"),
        _ => whole(number.round() as u64),
    }
}

/// So many a second.
#[must_use]
pub fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| NONE.to_owned(), |rate| format!("{}/s", short(rate)))
}

/// In the largest unit that leaves a whole number.
#[must_use]
pub fn bytes(number: f64) -> String {
    let mut left = number;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter();
    let mut unit = units.next().copied().unwrap_or_default();
    while left >= 1023.5
        && let Some(next) = units.next()
    {
        left /= 1024.0;
        unit = next;
    }
    if unit == "B" || left >= 99.95 { format!("{left:.0} {unit}") } else { format!("{left:.1} {unit}") }
}

/// Bytes a second.
#[must_use]
pub fn flow(rate: Option<f64>) -> String {
    rate.map_or_else(|| NONE.to_owned(), |rate| format!("{}/s", bytes(rate)))
}

/// How long something lasts, in the two largest units of which there is one: `3d4h`, `5m`, `12s`, `340ms`.
#[must_use]
pub fn span(ms: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let Some(first) = UNITS.iter().position(|(_, unit)| ms >= *unit) else { return format!("{ms}ms") };
    let (name, unit) = UNITS[first];
    let rest = UNITS.get(first + 1).map(|(name, unit_below)| (name, ms % unit / unit_below));
    match rest {
        Some((below, count)) if count > 0 => format!("{}{name}{count}{below}", ms / unit),
        _ => format!("{}{name}", ms / unit),
    }
}

/// When a certificate ends, as the end of a sentence: `ends in 13 days, at 2026-12-10T12:00:00Z`.
#[must_use]
pub fn certificate(certificate: &Certificate) -> String {
    let end = i64::try_from(certificate.ends_at).ok().and_then(|end| jiff::Timestamp::from_second(end).ok());
    // The last second of the year 9999 stands for none (RFC 5280, section 4.1.2.5).
    let Some(end) = end else { return "never ends".to_owned() };
    match certificate.days_left {
        ..0 => format!("has ended at {end}"),
        0 => format!("ends within a day, at {end}"),
        1 => format!("ends in a day, at {end}"),
        days => format!("ends in {days} days, at {end}"),
    }
}

/// The upper bound of a short time: `<1ms`, `<250us`.
#[must_use]
pub fn below(seconds: Option<f64>) -> String {
    match seconds {
        None => NONE.to_owned(),
        Some(seconds) if seconds.is_infinite() => "long".to_owned(),
        Some(seconds) if seconds < 0.000_999 => format!("<{:.0}us", seconds * 1e6),
        Some(seconds) if seconds < 0.999 => format!("<{}ms", short(seconds * 1e3)),
        Some(seconds) => format!("<{}s", short(seconds)),
    }
}

/// A part of a whole in percent.
#[must_use]
pub fn percent(part: f64, all: f64) -> String {
    if all > 0.0 { format!("{:.0}%", 100.0 * part / all) } else { NONE.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_units() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(whole), ["0", "999", "1,000", "1,234,567"]);
        let rates = [None, Some(0.0), Some(0.04), Some(0.44), Some(9.94), Some(9.96), Some(4321.0)];
        assert_eq!(rates.map(rate), ["-", "0/s", "<0.1/s", "0.4/s", "9.9/s", "10/s", "4,321/s"]);
        let sizes = [0.0, 1023.0, 1024.0, 102_348.0, 104_857.6 * 1024.0, 1e18];
        assert_eq!(sizes.map(bytes), ["0 B", "1023 B", "1.0 KiB", "99.9 KiB", "102 MiB", "888 PiB"]);
        assert_eq!(flow(Some(1_572_864.0)), "1.5 MiB/s");
        let spans = [340, 12_999, 300_000, 312_000, 26_400_000, 273_845_000];
        assert_eq!(spans.map(span), ["340ms", "12s", "5m", "5m12s", "7h20m", "3d4h"]);
        let times = [None, Some(0.000_25), Some(0.001), Some(0.0025), Some(1.0), Some(f64::INFINITY)];
        assert_eq!(times.map(below), ["-", "<250us", "<1.0ms", "<2.5ms", "<1.0s", "long"]);
        assert_eq!([percent(1.0, 3.0), percent(1.0, 0.0)], ["33%", "-"]);
    }

    #[test]
    fn a_certificate_has_ended_or_will() {
        let says = |ends_at, days_left| certificate(&Certificate { ends_at, days_left });
        assert_eq!(says(1_800_000_000, 13), "ends in 13 days, at 2027-01-15T08:00:00Z");
        assert_eq!(says(1_800_000_000, 1), "ends in a day, at 2027-01-15T08:00:00Z");
        assert_eq!(says(1_800_000_000, 0), "ends within a day, at 2027-01-15T08:00:00Z");
        assert_eq!(says(1_800_000_000, -1), "has ended at 2027-01-15T08:00:00Z");
        assert_eq!(says(253_402_300_799, 2_900_000), "never ends");
        assert_eq!(says(u64::MAX, i64::MAX), "never ends");
    }
}
