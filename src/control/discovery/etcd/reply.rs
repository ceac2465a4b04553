//! What etcd's JSON gateway answers (<https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/>), and what is registered by it.
//! Pure. Numbers of 64 bits are strings there, bytes are base64, and what is zero or empty is left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::super::parse::{printable, with_sample};

/// Keys that a prefix may have.
pub const MOST_KEYS: usize = 1_024;

/// So much is kept of what stands behind the prefix, in bytes.
const MOST_NAME: usize = 1 << 10;

/// The bytes of a value that are looked at: one that has more is not a registration.
pub const MOST_VALUE: usize = 4 << 10;

/// What is under a prefix, by what stands behind it in the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    prefix: Vec<u8>,
    revision: i64,
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Deserialize)]
struct Range<'a> {
    header: Header,
    #[serde(default, borrow)]
    kvs: Vec<Pair<'a>>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default, deserialize_with = "int64")]
    revision: i64,
}

#[derive(Deserialize)]
struct Pair<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default, borrow)]
    value: Cow<'a, str>,
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    result: Option<Watched<'a>>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Watched<'a> {
    header: Header,
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    cancel_reason: String,
    #[serde(default, deserialize_with = "int64")]
    compact_revision: i64,
    #[serde(default, borrow)]
    events: Vec<Happened<'a>>,
}

#[derive(Deserialize)]
struct Happened<'a> {
    #[serde(default, rename = "type")]
    kind: Kind,
    #[serde(borrow)]
    kv: Pair<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    #[default]
    Put,
    Delete,
}

fn int64<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<'a> {
        Number(i64),
        Text(#[serde(borrow)] Cow<'a, str>),
    }
    match Either::deserialize(from)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

impl Registry {
    /// The answer to a question for all that has this prefix.
    ///
    /// # Errors
    /// Why it is none, or more than is taken.
    pub fn read(prefix: &str, bytes: &[u8]) -> Result<Self, String> {
        let reply: Range<'_> =
            serde_json::from_slice(bytes).map_err(|error| unclear("answer", &error, bytes))?;
        // A cluster begins with 1: an answer without is another program's.
        if reply.header.revision < 1 {
            return Err(with_sample("no answer of etcd: it has no revision".to_owned(), bytes));
        }
        let (prefix, revision) = (prefix.as_bytes().to_vec(), reply.header.revision);
        let mut all = Self { prefix, revision, pairs: BTreeMap::new() };
        for pair in &reply.kvs {
            let (name, value) = all.decode(pair)?;
            all.pairs.insert(name, value);
        }
        if reply.more { Err(too_many()) } else { all.bounded() }
    }

    /// Takes a line of the watch; whether it has changed anything. After an error it is to be read anew.
    ///
    /// # Errors
    /// Why the watch is over.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let line: Line<'_> =
            serde_json::from_slice(bytes).map_err(|error| unclear("event", &error, bytes))?;
        if let Some(error) = line.error {
            return Err(message(&error).unwrap_or_else(|| "the watch has failed".to_owned()));
        }
        let watched =
            line.result.ok_or_else(|| with_sample("no event of etcd: it has no result".to_owned(), bytes))?;
        if watched.compact_revision > 0 {
            return Err("what was to be watched is compacted".to_owned());
        }
        if watched.canceled {
            return Err(format!("the watch was cancelled: {}", printable(&watched.cancel_reason)));
        }
        let mut is_news = false;
        for Happened { kind, kv } in &watched.events {
            let (name, value) = self.decode(kv)?;
            is_news |= match kind {
                Kind::Put => self.pairs.insert(name, value.clone()).as_ref() != Some(&value),
                Kind::Delete => self.pairs.remove(&name).is_some(),
            };
        }
        if !watched.events.is_empty() {
            self.revision = self.revision.max(watched.header.revision);
        }
        if self.pairs.len() > MOST_KEYS { Err(too_many()) } else { Ok(is_news) }
    }

    fn bounded(self) -> Result<Self, String> {
        if self.pairs.len() > MOST_KEYS { Err(too_many()) } else { Ok(self) }
    }

    fn decode(&self, pair: &Pair<'_>) -> Result<(Vec<u8>, Vec<u8>), String> {
        let bytes = |text: &str| {
            let unclear =
                |error| with_sample(format!("no answer of etcd: no base64: {error}"), text.as_bytes());
            BASE64.decode(text.as_bytes()).map_err(unclear)
        };
        let (key, mut value) = (bytes(&pair.key)?, bytes(&pair.value)?);
        let Some(name) = key.strip_prefix(&*self.prefix) else {
            return Err(with_sample("it answers with a key that has another prefix".to_owned(), &key));
        };
        value.truncate(MOST_VALUE + 1);
        // Much longer than a name can be: it is told of, and left out.
        Ok((name[..name.len().min(MOST_NAME)].to_vec(), value))
    }

    /// The revision of etcd's store as of which it is known.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether the same is registered.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.pairs == other.pairs
    }

    /// What is registered: what stands behind the prefix in the key, and the value.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The body that asks for a watch of all that happens from here on.
    #[must_use]
    pub fn ask_watch(&self) -> String {
        let (key, range_end) = range(&self.prefix);
        let start = self.revision.saturating_add(1).to_string();
        // What is large comes in pieces: a line is bounded.
        json!({ "create_request": { "key": key, "range_end": range_end, "start_revision": start, "fragment": true } })
            .to_string()
    }
}

/// The body that asks for all that has this prefix.
#[must_use]
pub(super) fn ask_all(prefix: &str) -> String {
    let (key, range_end) = range(prefix.as_bytes());
    json!({ "key": key, "range_end": range_end, "limit": MOST_KEYS }).to_string()
}

/// The first key and the end of those that have this prefix, which is not empty: the prefix with its last byte one up.
fn range(prefix: &[u8]) -> (String, String) {
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    match end.last_mut() {
        Some(last) => *last += 1,
        // All that follow.
        None => end.push(0),
    }
    (BASE64.encode(prefix), BASE64.encode(&end))
}

/// The body that asks for a token.
#[must_use]
pub(super) fn ask_token(name: &str, password: &str) -> String {
    json!({ "name": name, "password": password }).to_string()
}

/// The answer to [`ask_token`].
///
/// # Errors
/// That it is none.
pub(super) fn token(reply: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Authenticated {
        token: String,
    }
    let reply: Authenticated =
        serde_json::from_slice(reply).map_err(|error| format!("no token of etcd: {error}"))?;
    Ok(reply.token)
}

/// What an answer with an error says of it.
#[must_use]
pub(super) fn refusal(reply: &[u8]) -> String {
    let said = serde_json::from_slice(reply).ok().and_then(|error| message(&error));
    said.unwrap_or_else(|| with_sample("no answer of etcd".to_owned(), reply))
}

fn message(error: &serde_json::Value) -> Option<String> {
    let text = |value: &serde_json::Value| Some(printable(value.as_str()?));
    text(error).or_else(|| error.get("message").and_then(text)).or_else(|| error.get("error").and_then(text))
}

/// An error of JSON tells what it has met, which is for people only when it is printable.
fn unclear(what: &str, error: &serde_json::Error, bytes: &[u8]) -> String {
    with_sample(format!("no {what} of etcd: {}", printable(&error.to_string())), bytes)
}

fn too_many() -> String {
    format!("more than {MOST_KEYS} keys have the prefix")
}

/// What may be text, for people.
pub(super) fn printable_bytes(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/s/";

    fn head(revision: i64) -> String {
        format!(
            "\"header\":{{\"cluster_id\":\"32\",\"member_id\":\"33\",\"revision\":\"{revision}\",\"raft_term\":\"2\"}}"
        )
    }

    fn kv(key: &str, value: &str) -> String {
        let [key, value] = [key, value].map(|text| BASE64.encode(text.as_bytes()));
        format!(
            "{{\"key\":\"{key}\",\"create_revision\":\"2\",\"mod_revision\":\"2\",\"version\":\"1\",\"value\":\"{value}\"}}"
        )
    }

    fn whole(pairs: &[(&str, &str)]) -> Registry {
        let kvs: Vec<String> = pairs.iter().map(|(key, value)| kv(key, value)).collect();
        let reply = format!("{{{},\"kvs\":[{}],\"count\":\"1\"}}", head(5), kvs.join(","));
        Registry::read(PREFIX, reply.as_bytes()).unwrap()
    }

    fn event(kind: &str, key: &str, value: &str) -> String {
        format!("{{{kind}\"kv\":{}}}", kv(key, value))
    }

    fn line(revision: i64, events: &[String]) -> String {
        format!("{{\"result\":{{{},\"events\":[{}]}}}}", head(revision), events.join(","))
    }

    fn texts(of: &Registry) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        of.pairs().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// As etcd 3.4 wrote it.
    #[test]
    fn an_answer_and_what_follows_make_what_is_registered() {
        let reply = r#"{"header":{"cluster_id":"324952591200643719","member_id":"3319814642761637952","revision":"2","raft_term":"2"},"kvs":[{"key":"L3MvYQ==","create_revision":"2","mod_revision":"2","version":"1","value":"MTI3LjAuMC4xOjE="}],"count":"1"}"#;
        let mut all = Registry::read(PREFIX, reply.as_bytes()).unwrap();
        assert_eq!(texts(&all), pairs(&[("a", "127.0.0.1:1")]));
        assert!(all.ask_watch().contains("\"start_revision\":\"3\""), "{}", all.ask_watch());
        for (line, is_news, expected) in [
            (r#"{"result":{"header":{"revision":"2"},"created":true}}"#, false, &[("a", "127.0.0.1:1")][..]),
            (
                r#"{"result":{"header":{"revision":"3"},"events":[{"kv":{"key":"L3MvYg==","mod_revision":"3","value":"MTI3LjAuMC4xOjI="}}]}}"#,
                true,
                &[("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")],
            ),
            (
                r#"{"result":{"header":{"revision":"4"},"events":[{"kv":{"key":"L3MvYg==","mod_revision":"4","version":"2"}}]}}"#,
                true,
                &[("a", "127.0.0.1:1"), ("b", "")],
            ),
            (
                r#"{"result":{"header":{"revision":"5"},"events":[{"type":"DELETE","kv":{"key":"L3MvYQ==","mod_revision":"5"}},{"type":"DELETE","kv":{"key":"L3MvYg==","mod_revision":"5"}}]}}"#,
                true,
                &[],
            ),
        ] {
            assert_eq!(all.apply(line.as_bytes()), Ok(is_news), "{line}");
            assert_eq!(texts(&all), pairs(expected), "{line}");
        }
        assert!(all.ask_watch().contains("\"start_revision\":\"6\""), "{}", all.ask_watch());
    }

    #[test]
    fn what_is_said_twice_is_no_news() {
        let mut all = whole(&[("/s/a", "x")]);
        let same =
            line(6, &[event("\"type\":\"PUT\",", "/s/a", "x"), event("\"type\":\"DELETE\",", "/s/b", "")]);
        assert_eq!(all.apply(same.as_bytes()), Ok(false));
        assert!(all.is_like(&whole(&[("/s/a", "x")])) && !all.is_like(&whole(&[("/s/a", "y")])));
    }

    #[test]
    fn numbers_may_be_numbers() {
        let reply = format!("{{\"header\":{{\"revision\":7}},\"kvs\":[{}]}}", kv("/s/a", "x"));
        assert!(Registry::read(PREFIX, reply.as_bytes()).unwrap().ask_watch().contains("\"8\""));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let key = |key: &str| format!("{{{},\"kvs\":[{key}]}}", head(1));
        for (reply, said) in [
            (String::new(), "no answer of etcd: EOF"),
            ("{}".to_owned(), "missing field `header`"),
            ("{\"header\":{}}".to_owned(), "it has no revision"),
            ("{\"header\":{\"revision\":\"-1\"}}".to_owned(), "it has no revision"),
            ("{\"header\":{\"revision\":\"9223372036854775808\"}}".to_owned(), "number too large"),
            (format!("{{{},\"kvs\":{{}}}}", head(1)), "invalid type"),
            (format!("{{{},\"more\":true}}", head(1)), "more than 1024 keys"),
            (key(&kv("/t/a", "x")), "another prefix"),
            (key("{\"key\":\"L3M*\"}"), "no base64"),
            (key("{\"value\":\"\"}"), "missing field `key`"),
            ("[".repeat(100_000), "no answer of etcd"),
        ] {
            let error = Registry::read(PREFIX, reply.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(Registry::read(PREFIX, &[0xff; 100]).is_err());
    }

    #[test]
    fn a_watch_ends_by_what_it_says() {
        for (line, said) in [
            ("{}", "it has no result"),
            (r#"{"result":null}"#, "it has no result"),
            (r#"{"result":{"header":{},"canceled":true,"compact_revision":"4"}}"#, "is compacted"),
            (
                r#"{"result":{"header":{},"canceled":true,"cancel_reason":"no \u001bpermission"}}"#,
                "cancelled: no \\u{1b}permission",
            ),
            (r#"{"error":{"grpc_code":14,"http_code":503,"message":"no leader"}}"#, "no leader"),
            (r#"{"error":"gone","code":3}"#, "gone"),
            (r#"{"error":{}}"#, "the watch has failed"),
            (
                r#"{"result":{"header":{},"events":[{"type":"MOVE","kv":{"key":"L3MvYQ=="}}]}}"#,
                "unknown variant",
            ),
            (r#"{"result":{"header":{},"events":[{}]}}"#, "missing field `kv`"),
            (r#"{"result":{"header":{},"events":[{"kv":{"key":"L3Q="}}]}}"#, "another prefix"),
        ] {
            let error = whole(&[]).apply(line.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn keys_and_values_are_bounded() {
        let mut all = whole(&[]);
        for number in 0..=MOST_KEYS {
            let put = line(6, &[event("", &format!("/s/{number}"), "x")]);
            assert_eq!(all.apply(put.as_bytes()).is_ok(), number < MOST_KEYS, "{number}");
        }
        let long = "x".repeat(MOST_VALUE * 2);
        assert_eq!(whole(&[("/s/a", &long)]).pairs().next().unwrap().1.len(), MOST_VALUE + 1);
    }

    #[test]
    fn a_prefix_is_a_range_of_keys() {
        let decoded = |prefix: &[u8]| {
            let (key, end) = range(prefix);
            assert_eq!(BASE64.decode(key.as_bytes()).unwrap(), prefix);
            BASE64.decode(end.as_bytes()).unwrap()
        };
        assert_eq!(decoded(b"/s/"), b"/s0");
        assert_eq!(decoded(b"a\xff\xff"), b"b");
        assert_eq!(decoded(b"\xff"), b"\0");
    }

    #[test]
    fn a_refusal_says_why() {
        for (reply, why) in [
            (r#"{"error":"etcdserver: no","message":"etcdserver: no","code":9}"#, "etcdserver: no"),
            (
                r#"{"error":{"message":"x"}}"#,
                "no answer of etcd; it begins with \"{\\\"error\\\":{\\\"message\\\":\\\"x\\\"}}\"",
            ),
            ("Not\x1bFound", "no answer of etcd; it begins with \"Not\\x1bFound\""),
            ("", "no answer of etcd"),
        ] {
            assert_eq!(refusal(reply.as_bytes()), why);
        }
        assert_eq!(token(br#"{"header":{"revision":"1"},"token":"ab.9"}"#).as_deref(), Ok("ab.9"));
        assert!(token(b"{}").is_err());
    }
}
