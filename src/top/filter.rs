//! Which connections are meant, as it is typed: `listener=web idle=60 source=10.0.0.0/8`.

use crate::control::model::Filter;

/// The words that can stand before `=`.
pub(super) const KEYS: &str = "listener=, pool=, server=, source=, older=SECONDS, idle=SECONDS, id=";

/// Reads what was typed.
///
/// # Errors
/// What is wrong, in words for the user.
pub(super) fn parse(text: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("{word}: write one of {KEYS}"))?;
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "id" => filter.id = value,
            "listener" => filter.listener = value,
            "pool" => filter.pool = value,
            "server" => filter.server = value,
            "source" => filter.source = value,
            "older" => filter.older_than_s = seconds(key, value)?,
            "idle" => filter.idle_for_s = seconds(key, value)?,
            _ => return Err(format!("{key}: there is no such word; write one of {KEYS}")),
        }
    }
    Ok(filter)
}

fn seconds(key: &str, value: Option<String>) -> Result<Option<u64>, String> {
    value
        .map(|value| {
            value.parse().map_err(|_| format!("{key}={value}: write whole seconds, such as {key}=60"))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_has_its_word() {
        let text = "id=1a listener=web  pool=p server=p/a source=10.0.0.0/8 older=5 idle=60";
        let filter = Filter {
            id: Some("1a".to_owned()),
            listener: Some("web".to_owned()),
            pool: Some("p".to_owned()),
            server: Some("p/a".to_owned()),
            source: Some("10.0.0.0/8".to_owned()),
            older_than_s: Some(5),
            idle_for_s: Some(60),
        };
        assert_eq!(parse(text), Ok(filter));
        assert_eq!(parse(" listener= "), Ok(Filter::default()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_cure() {
        for (text, part) in [
            ("web", "web: write one of listener="),
            ("port=80", "port: there is no such word"),
            ("idle=1m", "idle=1m: write whole seconds, such as idle=60"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
