//! What a request says: its body as JSON or as text, and its query.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::super::model::{Refusal, RefusalKind};
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
