//! Numbers for people: as many digits as mean something, and units that fit.

use crate::lab::results::{Kind, Subject};
use crate::lab::workload::Unit;

/// Stands where there is no figure.
pub(super) const NONE: &str = "–";

/// About three significant digits, thousands apart: `0.042`, `3.14`, `41.6`, `12,345`.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".to_owned()
    } else if size >= 99.95 {
        thousands(value)
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else if size >= 0.9995 {
        format!("{value:.2}")
    } else if size >= 0.0005 {
        format!("{value:.3}")
    } else {
        "<0.001".to_owned()
    }
}

/// A whole number, its thousands apart.
fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// How many times one thing is another: `0.62`, `1.04`, `12.3`.
pub(in crate::lab) fn ratio(value: f64) -> String {
    if value >= 9.995 {
        short(value)
    } else if value < 0.095 {
        format!("{value:.3}")
    } else {
        format!("{value:.2}")
    }
}

/// Microseconds in a unit that fits: `61 µs`, `1.23 ms`.
pub(super) fn duration(microseconds: f64) -> String {
    match microseconds {
        under if under < 999.5 => format!("{} µs", short(under)),
        under if under < 999_500.0 => format!("{} ms", short(under / 1e3)),
        over => format!("{} s", short(over / 1e6)),
    }
}

/// Bytes in a unit that fits: `112 B`, `3.38 kB`.
pub(super) fn bytes(count: f64) -> String {
    match count.abs() {
        under if under < 999.5 => format!("{count:.0} B"),
        under if under < 999_500.0 => format!("{} kB", short(count / 1e3)),
        under if under < 999_500_000.0 => format!("{} MB", short(count / 1e6)),
        _ => format!("{} GB", short(count / 1e9)),
    }
}

/// CPU time for a unit of work: by what microseconds are multiplied to be shown, and the unit they are shown in.
pub(super) fn cpu_scale(unit: Unit) -> (f64, String) {
    let (scale, time) = if unit == Unit::Gigabyte { (1e-3, "ms") } else { (1.0, "µs") };
    (scale, format!("{time}/{}", unit.name()))
}

/// The unit of throughput: `GB/s`, `requests/s`.
pub(super) fn per_second(unit: Unit) -> String {
    if unit == Unit::Gigabyte { "GB/s".to_owned() } else { format!("{}s/s", unit.name()) }
}

/// `text` with a capital letter at its start.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `1 round`, `6 rounds`, `9,000 connections`.
pub(in crate::lab) fn counted(count: usize, thing: &str) -> String {
    format!("{} {thing}{}", thousands(count as f64), if count == 1 { "" } else { "s" })
}

/// A figure for an axis: without zeros that say nothing.
pub(super) fn tick(shown: &str) -> String {
    let (number, unit) = shown.split_at(shown.find(' ').unwrap_or(shown.len()));
    let short =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    if short == "0" { short.to_owned() } else { format!("{short}{unit}") }
}

/// A cause that is longer than this is cut in a table; it is whole further down.
const CAUSE: usize = 70;

/// What kind of thing a subject is, in a word or two.
pub(super) fn kind(subject: &Subject) -> &str {
    match subject.kind {
        Kind::Direct => "no proxy",
        Kind::Engine => subject.model.as_deref().unwrap_or("engine"),
        Kind::Build => "build",
        Kind::Peer => "peer",
    }
}

/// The start of a long cause.
pub(super) fn cut(cause: &str) -> String {
    let line = cause.lines().next().unwrap_or_default();
    if line.chars().count() <= CAUSE {
        return line.to_owned();
    }
    line.chars().take(CAUSE - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_as_many_digits_as_mean_something() {
        let shown = [0.0, 0.000_01, 0.0421, 0.9999, 3.1259, 41.57, 99.96, 1_234.5, -7_654_321.0].map(short);
        assert_eq!(shown, ["0", "<0.001", "0.042", "1.00", "3.13", "41.6", "100", "1,234", "-7,654,321"]);
        assert_eq!([0.0423, 0.618, 1.0, 12.34].map(ratio), ["0.042", "0.62", "1.00", "12.3"]);
        assert_eq!([61.2, 999.9, 2_500.0, 3e6].map(duration), ["61.2 µs", "1.00 ms", "2.50 ms", "3.00 s"]);
        assert_eq!([112.0, 3_376.0, -4.2e6, 2e9].map(bytes), ["112 B", "3.38 kB", "-4.20 MB", "2.00 GB"]);
    }

    #[test]
    fn words_fit_their_numbers() {
        assert_eq!(capital("ping-pong"), "Ping-pong");
        assert_eq!([counted(1, "round"), counted(9_000, "round")], ["1 round", "9,000 rounds"]);
        assert_eq!(["5.00", "100", "0 B", "12.50 ms", "0.10"].map(tick), ["5", "100", "0", "12.5 ms", "0.1"]);
        assert_eq!(per_second(Unit::Request), "requests/s");
        assert_eq!(cpu_scale(Unit::Gigabyte), (1e-3, "ms/GB".to_owned()));
    }
}
