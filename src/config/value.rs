//! Single values: what a string, a number, a duration or a size must look like, and what to write instead.

use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::known;

/// What is wrong with a value, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// A value, or what is wrong with it.
pub(super) type Parsed<T> = Result<T, Fault>;

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// For what the reference describes and this version does not do.
    pub(super) fn not_yet(what: &str) -> Self {
        Self::new(format!("{what} is not supported yet by this version"))
    }

    /// For a value of the wrong TOML type.
    pub(super) fn mismatch(expected: &str, found: &DeValue<'_>) -> Self {
        Self::new(format!("expected {expected}, found {}", describe(found)))
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Parsed<bool> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        _ => Err(Fault::mismatch("true or false", value)),
    }
}

/// A whole number in `range`.
pub(super) fn integer<T>(value: &DeValue<'_>, range: RangeInclusive<T>) -> Parsed<T>
where
    T: Display + PartialOrd + TryFrom<u64>,
{
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let DeValue::Integer(number) = value else {
        let fault = Fault::mismatch(&expected, value);
        return Err(match value {
            DeValue::String(text) if text.parse::<u64>().is_ok() => {
                fault.help(format!("write {text}, without quotes"))
            }
            DeValue::String(text) => match thousands(text) {
                Some(number) => fault.help(format!("a count has no unit: write {number}")),
                None => fault,
            },
            _ => fault,
        });
    };
    let read = plain_number(value).and_then(|read| T::try_from(read).ok());
    read.filter(|read| range.contains(read)).ok_or_else(|| {
        let is_low = plain_number(value).map_or_else(
            || number.as_str().starts_with('-'),
            |read| T::try_from(read).is_ok_and(|read| read < *range.start()),
        );
        Fault::mismatch(&expected, value).help(if is_low {
            format!("the least is {}", range.start())
        } else {
            format!("the most is {}", range.end())
        })
    })
}

/// A whole number that is not below 0, of any size.
pub(super) fn plain_number(value: &DeValue<'_>) -> Option<u64> {
    let DeValue::Integer(number) = value else { return None };
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What `"10k"` or `"2M"` is meant to be.
fn thousands(text: &str) -> Option<u64> {
    let (number, unit) = quantity(text)?;
    let factor = match unit {
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A whole number in `range`, or `word`, which gives `None`.
pub(super) fn integer_or<T>(word: &str, value: &DeValue<'_>, range: RangeInclusive<T>) -> Parsed<Option<T>>
where
    T: Display + PartialOrd + TryFrom<u64>,
{
    let expected = format!("\"{word}\" or a whole number from {} to {}", range.start(), range.end());
    if matches!(value, DeValue::String(_)) && text(value)? == word {
        return Ok(None);
    }
    integer(value, range).map(Some).map_err(|fault| {
        let or = |help| if value.is_integer() { format!("{help}; or write \"{word}\"") } else { help };
        Fault { help: fault.help.map(or), ..Fault::mismatch(&expected, value) }
    })
}

/// A share: over 0 and up to 1.
pub(super) fn share(value: &DeValue<'_>) -> Parsed<f64> {
    let read = match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) if number.as_str() == "1" => Some(1.0),
        _ => None,
    };
    read.filter(|read| *read > 0.0 && *read <= 1.0)
        .ok_or_else(|| Fault::mismatch("a number over 0 and up to 1, such as 0.1", value))
}

/// A share from 0 to 1, in thousandths.
pub(super) fn thousandths(value: &DeValue<'_>) -> Parsed<u16> {
    let read = match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => number.as_str().parse().ok(),
        _ => None,
    };
    let read = read.filter(|read: &f64| (0.0..=1.0).contains(read));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
    read.map(|read| (read * 1000.0).round() as u16)
        .ok_or_else(|| Fault::mismatch("a number from 0 to 1, such as 0.1", value))
}

/// A part of a hundred, such as `"50%"`, 1 to 100.
pub(super) fn percent(value: &DeValue<'_>) -> Parsed<u8> {
    let expected = "a percentage from \"1%\" to \"100%\"";
    if let DeValue::Integer(number) = value {
        return Err(Fault::mismatch(expected, value).help(format!("write \"{number}%\"")));
    }
    if !matches!(value, DeValue::String(_)) {
        return Err(Fault::mismatch(expected, value));
    }
    let text = text(value)?;
    let read =
        quantity(&text).filter(|(_, unit)| *unit == "%").and_then(|(number, _)| u8::try_from(number).ok());
    read.filter(|read| (1..=100).contains(read)).ok_or_else(|| Fault::mismatch(expected, value))
}

/// A share from 0 to 1.
pub(super) fn fraction(value: &DeValue<'_>) -> Parsed<f64> {
    match value {
        DeValue::Integer(number) if number.as_str() == "0" => Ok(0.0),
        DeValue::Float(number) if number.as_str().parse() == Ok(0.0) => Ok(0.0),
        _ => share(value).map_err(|_| Fault::mismatch("a number from 0 to 1, such as 0.1", value)),
    }
}

/// A length of time over zero and up to a year, such as `"500ms"`.
pub(super) fn duration(value: &DeValue<'_>) -> Parsed<Duration> {
    timed(value, "a duration such as \"5s\"", "write at least \"1ms\"")
}

/// A length of time as [`duration`] reads it, or none at all: `"0s"`.
pub(super) fn duration_or_zero(value: &DeValue<'_>) -> Parsed<Duration> {
    if matches!(value, DeValue::String(_)) && matches!(text(value)?.as_str(), "0s" | "0ms") {
        return Ok(Duration::ZERO);
    }
    duration(value)
}

/// A length of time as [`duration`] reads it, or `"off"`, which gives `None`.
pub(super) fn duration_or_off(value: &DeValue<'_>) -> Parsed<Option<Duration>> {
    if matches!(value, DeValue::String(_)) && text(value)? == "off" {
        return Ok(None);
    }
    timed(value, "a duration such as \"5s\", or \"off\"", "write \"off\" for no limit").map(Some)
}

/// The units of durations, the largest first, with their milliseconds.
pub(super) const DURATION_UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const LONGEST_MS: u64 = 365 * 24 * 3_600_000;

fn timed(value: &DeValue<'_>, expected: &str, instead_of_zero: &str) -> Parsed<Duration> {
    let fault = || Fault::mismatch(expected, value);
    if let DeValue::Integer(number) = value {
        return Err(fault().help(format!("a duration has a unit: write \"{number}s\" or \"{number}ms\"")));
    }
    if !matches!(value, DeValue::String(_)) {
        return Err(fault());
    }
    time(&text(value)?, expected, instead_of_zero)
}

/// A length of time over zero and up to a year, whoever wrote it.
pub(super) fn time(text: &str, expected: &str, instead_of_zero: &str) -> Parsed<Duration> {
    let fault = || Fault::new(format!("expected {expected}, found the string {text:?}"));
    let units = "the units are ms, s, m and h, after one whole number: \"500ms\" \"5s\" \"10m\" \"1h\"";
    let (number, unit) = quantity(text).ok_or_else(|| fault().help(units))?;
    let Some((_, factor)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(fault().help(units));
    };
    if number == 0 {
        return Err(Fault::new(format!("{text:?} is no time at all")).help(instead_of_zero));
    }
    let ms = number.checked_mul(*factor).filter(|ms| *ms <= LONGEST_MS);
    ms.map(Duration::from_millis)
        .ok_or_else(|| Fault::new(format!("{text:?} is over a year")).help("the longest is \"8760h\""))
}

/// The units of sizes, the largest first, with their bytes.
pub(super) const SIZE_UNITS: &[(&str, u64)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A size in bytes, such as `"16KiB"`, in `range`; `limits` says the range in the user's words.
pub(super) fn size<T>(value: &DeValue<'_>, range: RangeInclusive<T>, limits: &str) -> Parsed<T>
where
    T: PartialOrd + TryFrom<u64>,
{
    let fault = || Fault::mismatch(&format!("a size {limits}, such as \"16KiB\""), value);
    if let DeValue::Integer(number) = value {
        return Err(fault().help(format!("a size has a unit: write \"{number}KiB\" or \"{number}MiB\"")));
    }
    if !matches!(value, DeValue::String(_)) {
        return Err(fault());
    }
    let text = text(value)?;
    let units = "the units are KiB, MiB and GiB, after one whole number";
    let (number, unit) = quantity(&text).ok_or_else(|| fault().help(units))?;
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        let first = |name: &str| unit.chars().next().map(|c| c.to_ascii_uppercase()) == name.chars().next();
        let near = SIZE_UNITS.iter().find(|(name, _)| first(name));
        return Err(fault().help(
            near.map_or_else(|| units.to_owned(), |(name, _)| format!("did you mean \"{number}{name}\"?")),
        ));
    };
    let bytes = number.checked_mul(*factor).and_then(|bytes| T::try_from(bytes).ok());
    bytes.filter(|bytes| range.contains(bytes)).ok_or_else(fault)
}

/// What is meant by a number of bits a second, such as `"10Mbit/s"` or `"100kbps"`, in the units that there are.
pub(super) fn bits_a_second(text: &str) -> Option<String> {
    // In small letters `mb` is as often a megabyte.
    let capital = || text.strip_suffix("b/s").filter(|number| number.ends_with(['K', 'M', 'G']));
    let bits = text.strip_suffix("bit/s").or_else(|| text.strip_suffix("bps")).or_else(capital)?;
    let (number, unit) = quantity(bits)?;
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        _ => return None,
    };
    let bytes = number.checked_mul(factor)? / 8;
    let of = |(_, unit): &&(&str, u64)| bytes >= *unit && (bytes % unit == 0 || bytes >= unit * 1_000);
    let (name, unit) = SIZE_UNITS.iter().find(of).or(SIZE_UNITS.last())?;
    Some(format!("\"{}{name}/s\"", (bytes / unit).max(1)))
}

/// Splits `"10m"` into 10 and `m`; spaces between them do not matter.
fn quantity(text: &str) -> Option<(u64, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim_start()))
}

/// So many a second, such as `"50/s"`.
pub(super) fn rate(value: &DeValue<'_>) -> Parsed<u32> {
    const EXPECTED: &str = "a rate such as \"50/s\"";
    if let DeValue::Integer(number) = value {
        return Err(Fault::mismatch(EXPECTED, value).help(format!("a rate has a unit: write \"{number}/s\"")));
    }
    if !matches!(value, DeValue::String(_)) {
        return Err(Fault::mismatch(EXPECTED, value));
    }
    super::rate(&text(value)?)
        .ok_or_else(|| Fault::mismatch(EXPECTED, value).help("a whole number from 1 to 1000000, and `/s`"))
}

/// One of the words `names`; those in `later` belong to the reference but not to this version.
pub(super) fn choice<T: Clone>(value: &DeValue<'_>, names: &[(&str, T)], later: &[&str]) -> Parsed<T> {
    let words: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let expected = known::listed(&words, "\"", " or ");
    if !matches!(value, DeValue::String(_)) {
        return Err(Fault::mismatch(&expected, value));
    }
    let text = text(value)?;
    if let Some((_, meaning)) = names.iter().find(|(name, _)| *name == text) {
        return Ok(meaning.clone());
    }
    if later.contains(&text.as_str()) {
        return Err(Fault::not_yet(&format!("{text:?}")).help(format!("this version has {expected}")));
    }
    let fault = Fault::new(format!("expected {expected}, found {text:?}"));
    let ours =
        known::value_of_others(&text).or_else(|| known::nearest(&text, words.iter().chain(later).copied()));
    Err(match ours {
        Some(ours) if words.contains(&ours) => fault.help(format!("did you mean {ours:?}?")),
        Some(ours) if later.contains(&ours) => {
            fault.help(format!("did you mean {ours:?}? It is not supported yet by this version"))
        }
        _ => fault,
    })
}

/// The name of a listener, a pool or a server.
pub(super) fn name(name: &str) -> Parsed<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(Fault::new(format!("{name:?} is not a name"))
        .help("a name has 1 to 64 of the characters A-Z a-z 0-9 `_` `.` `-`"))
}

/// A string, with `${NAME}` and `${file:/path}` replaced; `$${` stands for a plain `${`.
pub(super) fn text(value: &DeValue<'_>) -> Parsed<String> {
    let DeValue::String(raw) = value else {
        return Err(Fault::mismatch("a string", value));
    };
    let mut out = String::new();
    let mut rest: &str = raw;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &reference[2..];
            continue;
        }
        let Some((name, after)) = reference[2..].split_once('}') else {
            return Err(Fault::new("`${` has no `}`").help("write `$${` for a plain `${`"));
        };
        out.push_str(before);
        out.push_str(&referenced(name)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// What `${name}` stands for.
fn referenced(name: &str) -> Parsed<String> {
    if let Some(path) = name.strip_prefix("file:") {
        let fault = |why: &str| Fault::new(format!("cannot read `${{{name}}}`: {why}"));
        let bytes =
            read_up_to(Path::new(path), LARGEST_REFERENCED).map_err(|error| fault(&error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| fault("it is not UTF-8"))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(line.strip_suffix('\r').unwrap_or(line).to_owned());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) {
        return Err(Fault::new(format!("`${{{name}}}` is not a reference"))
            .help("write `${NAME}` or `${file:/path}`, or `$${` for a plain `${`"));
    }
    env::var(name).map_err(|error| match error {
        env::VarError::NotPresent => Fault::new(format!("the environment has no `{name}`"))
            .help("set it before the start, or write `$${` for a plain `${`"),
        env::VarError::NotUnicode(_) => Fault::new(format!("`{name}` in the environment is not UTF-8")),
    })
}

/// The largest file that `${file:…}` reads, in bytes.
const LARGEST_REFERENCED: u64 = 64 << 10;

/// The bytes of a file that has at most `most` of them.
pub(super) fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has over {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Runs a parser on a value as TOML writes it.
    fn read<T>(toml: &str, parse: impl FnOnce(&DeValue<'_>) -> Parsed<T>) -> Parsed<T> {
        parse(DeValue::parse(toml).unwrap().get_ref())
    }

    /// The message and the help of a refusal, on one line.
    fn refusal<T: std::fmt::Debug>(parsed: Parsed<T>) -> String {
        let fault = parsed.unwrap_err();
        fault.message + &fault.help.map_or_else(String::new, |help| format!(" / {help}"))
    }

    #[test]
    fn durations_have_a_unit() {
        for (toml, ms) in
            [("'1ms'", 1), ("'500 ms'", 500), ("'5s'", 5_000), ("'10m'", 600_000), ("'8760h'", LONGEST_MS)]
        {
            assert_eq!(read(toml, duration), Ok(Duration::from_millis(ms)), "{toml}");
            assert_eq!(read(toml, duration_or_off), Ok(Some(Duration::from_millis(ms))), "{toml}");
        }
        assert_eq!(read("'off'", duration_or_off), Ok(None));
    }

    #[test]
    fn other_durations_are_refused_with_what_to_write() {
        let cases = [
            ("5", "found the number 5 / a duration has a unit: write \"5s\" or \"5ms\""),
            ("0.5", "expected a duration such as \"5s\", found the number 0.5"),
            ("true", "found true"),
            ("'5'", "found the string \"5\" / the units are ms, s, m and h"),
            ("'5sec'", "the units are"),
            ("'1h30m'", "after one whole number"),
            ("'1.5s'", "after one whole number"),
            ("'-5s'", "after one whole number"),
            ("''", "after one whole number"),
            ("'off'", "expected a duration such as \"5s\", found the string \"off\""),
            ("'0s'", "\"0s\" is no time at all / write at least \"1ms\""),
            ("'8761h'", "\"8761h\" is over a year / the longest is \"8760h\""),
            ("'18446744073709551615h'", "is over a year"),
            ("'18446744073709551616h'", "the units are"),
        ];
        for (toml, part) in cases {
            let refusal = refusal(read(toml, duration));
            assert!(refusal.contains(part), "{toml}: {refusal}");
        }
        assert!(refusal(read("'0s'", duration_or_off)).ends_with("/ write \"off\" for no limit"));
    }

    #[test]
    fn sizes_have_a_unit_and_limits() {
        let small = |value: &DeValue<'_>| size(value, 4096..=1_u32 << 30, "from 4KiB to 1GiB");
        for (toml, bytes) in [("'4KiB'", 4096), ("'1 MiB'", 1 << 20), ("'1GiB'", 1 << 30)] {
            assert_eq!(read(toml, small), Ok(bytes), "{toml}");
        }
        let cases = [
            ("16", "found the number 16 / a size has a unit: write \"16KiB\" or \"16MiB\""),
            ("'16k'", "did you mean \"16KiB\"?"),
            ("'16KB'", "did you mean \"16KiB\"?"),
            ("'2mb'", "did you mean \"2MiB\"?"),
            ("'2G'", "did you mean \"2GiB\"?"),
            ("'16384'", "the units are KiB, MiB and GiB"),
            ("'big'", "the units are"),
            ("'3KiB'", "expected a size from 4KiB to 1GiB, such as \"16KiB\", found the string \"3KiB\""),
            ("'2GiB'", "from 4KiB to 1GiB"),
            ("'99999999999999GiB'", "from 4KiB to 1GiB"),
            ("[]", "found an array"),
        ];
        for (toml, part) in cases {
            let refusal = refusal(read(toml, small));
            assert!(refusal.contains(part), "{toml}: {refusal}");
        }
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let few = |value: &DeValue<'_>| integer(value, 1..=255_u8);
        assert_eq!(read("1", few), Ok(1));
        assert_eq!(read("0xff", few), Ok(255));
        assert_eq!(read("1_0", few), Ok(10));
        for toml in ["0", "256", "-1", "99999999999999999999", "1.0", "true", "{}", "1979-05-27"] {
            assert!(
                refusal(read(toml, few)).starts_with("expected a whole number from 1 to 255, found"),
                "{toml}"
            );
        }
        assert!(refusal(read("'3'", few)).ends_with("/ write 3, without quotes"));

        let auto = |value: &DeValue<'_>| integer_or("auto", value, 1..=1024_u16);
        assert_eq!(read("'auto'", auto), Ok(None));
        assert_eq!(read("4", auto), Ok(Some(4)));
        assert_eq!(
            refusal(read("'many'", auto)),
            "expected \"auto\" or a whole number from 1 to 1024, found the string \"many\""
        );
        assert!(refusal(read("'4'", auto)).ends_with("/ write 4, without quotes"));
    }

    #[test]
    fn shares_are_over_zero_and_up_to_one() {
        for (toml, value) in [("1", 1.0), ("1.0", 1.0), ("0.25", 0.25), ("1e-3", 0.001)] {
            assert_eq!(read(toml, share), Ok(value), "{toml}");
        }
        for toml in ["0", "0.0", "-0.5", "1.5", "2", "nan", "inf", "'0.5'"] {
            assert!(refusal(read(toml, share)).starts_with("expected a number over 0 and up to 1"), "{toml}");
        }
    }

    #[test]
    fn fractions_are_from_zero_to_one() {
        for (toml, value) in [("0", 0.0), ("0.0", 0.0), ("0.1", 0.1), ("1", 1.0)] {
            assert_eq!(read(toml, fraction), Ok(value), "{toml}");
        }
        for toml in ["-0.1", "1.1", "2", "nan", "'0.1'"] {
            assert!(refusal(read(toml, fraction)).starts_with("expected a number from 0 to 1"), "{toml}");
        }
    }

    #[test]
    fn words_are_matched_exactly_and_near_ones_are_suggested() {
        let colour = |value: &DeValue<'_>| choice(value, &[("round_robin", 1), ("mio", 2)], &["least_conn"]);
        assert_eq!(read("'mio'", colour), Ok(2));
        let cases = [
            (
                "'least_conn'",
                "\"least_conn\" is not supported yet by this version / this version has \"round_robin\" or \"mio\"",
            ),
            ("'roundrobin'", "found \"roundrobin\" / did you mean \"round_robin\"?"),
            ("'ROUND_ROBIN'", "did you mean \"round_robin\"?"),
            ("'leastconn'", "did you mean \"least_conn\"? It is not supported yet by this version"),
            ("'LEAST_REQUEST'", "did you mean \"least_conn\"? It is not supported yet by this version"),
            ("1", "expected \"round_robin\" or \"mio\", found the number 1"),
        ];
        for (toml, part) in cases {
            let refusal = refusal(read(toml, colour));
            assert!(refusal.contains(part), "{toml}: {refusal}");
        }
        assert_eq!(refusal(read("'zzz'", colour)), "expected \"round_robin\" or \"mio\", found \"zzz\"");
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "pg-tls", "A.b_9", &"n".repeat(64)] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "é", "a/b", "\u{1b}", &"n".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn strings_take_from_the_environment_and_from_files() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"secret\r\n").unwrap();
        let path = file.path().display();
        // Cargo sets this variable for every test that it runs.
        let package = env::var("CARGO_PKG_NAME").unwrap();
        let cases = [
            ("a${CARGO_PKG_NAME}b".to_owned(), format!("a{package}b")),
            (format!("<${{file:{path}}}>"), "<secret>".to_owned()),
            ("$${CARGO_PKG_NAME}".to_owned(), "${CARGO_PKG_NAME}".to_owned()),
            ("$$${x}".to_owned(), "$${x}".to_owned()),
            ("$ {x} $$ }".to_owned(), "$ {x} $$ }".to_owned()),
        ];
        for (written, meant) in cases {
            assert_eq!(text(&DeValue::String(written.as_str().into())), Ok(meant), "{written}");
        }
    }

    #[test]
    fn a_reference_to_nothing_is_refused() {
        let mut latin = tempfile::NamedTempFile::new().unwrap();
        latin.write_all(b"\xff").unwrap();
        let large = tempfile::NamedTempFile::new().unwrap();
        large.as_file().set_len(LARGEST_REFERENCED + 1).unwrap();
        let cases = [
            ("${TIDEGATE_NO_SUCH}".to_owned(), "the environment has no `TIDEGATE_NO_SUCH`"),
            ("${file:/nowhere/at/all}".to_owned(), "cannot read `${file:/nowhere/at/all}`: "),
            (format!("${{file:{}}}", latin.path().display()), "it is not UTF-8"),
            (format!("${{file:{}}}", large.path().display()), "it has over 65536 bytes"),
            ("${".to_owned(), "`${` has no `}`"),
            ("${}".to_owned(), "`${}` is not a reference"),
            ("${a b}".to_owned(), "`${a b}` is not a reference"),
        ];
        for (written, part) in cases {
            let refusal = refusal(text(&DeValue::String(written.as_str().into())));
            assert!(refusal.contains(part), "{written}: {refusal}");
        }
    }
}
