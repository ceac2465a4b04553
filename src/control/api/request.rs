//! What a request says: its body as JSON or as text, and its query.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::super::model::{Filter, Refusal, RefusalKind};
use super::answer::Refused;
use super::{BODY_WAIT, LARGEST_BODY};

/// The body as JSON. One that is not there is read as `{}`.
pub(super) async fn json<T: DeserializeOwned>(request: Request) -> Result<T, Refused> {
    let (parts, body) = request.into_parts();
    let bytes = whole(&parts.headers, body).await?;
    if !bytes.is_empty() && !is_json(&parts.headers) {
        let refusal = Refusal::new(RefusalKind::Invalid, "the body is not said to be JSON");
        let refusal = refusal.help("send it with the header `content-type: application/json`");
        return Err(Refused::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, refusal));
    }
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut text).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("`{path}`: ") };
        invalid(format!("{place}{}", error.inner()))
    })?;
    text.end().map_err(|error| invalid(format!("there is more than one value: {error}")))?;
    Ok(read)
}

/// The body as text.
pub(super) async fn text(request: Request) -> Result<String, Refused> {
    let (parts, body) = request.into_parts();
    let bytes = whole(&parts.headers, body).await?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        invalid(format!("the body is not UTF-8: its byte {at} begins no letter"))
    })
}

/// The whole body, unless it is too large or takes too long.
async fn whole(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refused> {
    let too_large = || {
        let message = format!("the body has more than {LARGEST_BODY} bytes");
        Refused::from(Refusal::new(RefusalKind::TooLarge, message))
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > LARGEST_BODY as u64) {
        return Err(too_large());
    }
    match timeout(BODY_WAIT, to_bytes(body, LARGEST_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) if is_limit(&error) => Err(too_large()),
        Ok(Err(error)) => Err(invalid(format!("the body ends early: {error}"))),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_WAIT.as_secs());
            Err(Refusal::new(RefusalKind::Slow, message).into())
        }
    }
}

fn is_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

fn is_json(headers: &HeaderMap) -> bool {
    let of_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    of_type.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json"))
}

fn invalid(message: String) -> Refused {
    Refusal::new(RefusalKind::Invalid, message).into()
}

/// Which connections are asked for, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) filter: Filter,
    pub(super) paths: bool,
    pub(super) limit: Option<u64>,
}

/// Every parameter of a query.
const PARAMETERS: &str =
    "`id`, `listener`, `pool`, `server`, `source`, `older_than_s`, `idle_for_s`, `paths` and `limit`";

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let filter = &mut query.filter;
            match &*name {
                "id" => filter.id = Some(word(&name, &value)?),
                "listener" => filter.listener = Some(word(&name, &value)?),
                "pool" => filter.pool = Some(word(&name, &value)?),
                "server" => filter.server = Some(word(&name, &value)?),
                "source" => filter.source = Some(word(&name, &value)?),
                "older_than_s" => filter.older_than_s = Some(number(&name, &value)?),
                "idle_for_s" => filter.idle_for_s = Some(number(&name, &value)?),
                "limit" => query.limit = Some(number(&name, &value)?),
                "paths" => {
                    query.paths = value.parse().map_err(|_| wrong(&name, &value, "true or false"))?;
                }
                _ => {
                    let refusal =
                        Refusal::new(RefusalKind::Invalid, format!("unknown query parameter `{name}`"));
                    return Err(refusal.help(format!("there are {PARAMETERS}")));
                }
            }
            if seen.contains(&name) {
                return Err(Refusal::new(RefusalKind::Invalid, format!("`{name}` is given twice")));
            }
            seen.push(name);
        }
        Ok(query)
    }
}

fn word(name: &str, value: &str) -> Result<String, Refusal> {
    if value.is_empty() {
        return Err(Refusal::new(RefusalKind::Invalid, format!("`{name}` is empty")).help("leave it out"));
    }
    Ok(value.to_owned())
}

fn number(name: &str, value: &str) -> Result<u64, Refusal> {
    value.parse().map_err(|_| wrong(name, value, "a whole number"))
}

fn wrong(name: &str, value: &str, expected: &str) -> Refusal {
    Refusal::new(RefusalKind::Invalid, format!("`{name}`: expected {expected}, found {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_of_a_query_is_read() {
        let text = "id=1f&listener=a&pool=p&server=p%2Fs&source=10.0.0.0%2F8&older_than_s=1&idle_for_s=2&paths=true&limit=3";
        let some = |text: &str| Some(text.to_owned());
        let filter = Filter {
            id: some("1f"),
            listener: some("a"),
            pool: some("p"),
            server: some("p/s"),
            source: some("10.0.0.0/8"),
            older_than_s: Some(1),
            idle_for_s: Some(2),
        };
        assert_eq!(Query::parse(text), Ok(Query { filter, paths: true, limit: Some(3) }));
        assert_eq!(Query::parse(""), Ok(Query::default()));
    }

    #[test]
    fn wrong_queries_are_refused_by_name() {
        for (text, part) in [
            ("colour=red", "unknown query parameter `colour`"),
            ("limit=-1", "`limit`: expected a whole number, found \"-1\""),
            ("paths=yes", "`paths`: expected true or false"),
            ("server=", "`server` is empty"),
            ("pool=a&pool=b", "`pool` is given twice"),
            ("older_than_s=10m", "`older_than_s`: expected a whole number"),
        ] {
            let refusal = Query::parse(text).unwrap_err();
            assert!(refusal.message.contains(part), "{text}: {refusal}");
        }
    }
}
