//! Answers: JSON, and refusals with their status.

use axum::body::{Body, Bytes};
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::super::model::{Refusal, RefusalKind};

pub(super) const JSON: &str = "application/json";

/// An answer, or why there is none.
pub(super) type Answer = Result<Response, Refused>;

/// A refusal, and its status.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    refusal: Box<Refusal>,
}

impl Refused {
    pub(super) fn with_status(status: StatusCode, refusal: Refusal) -> Self {
        Self { status, refusal: Box::new(refusal) }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::Unauthorized => StatusCode::UNAUTHORIZED,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::Slow => StatusCode::REQUEST_TIMEOUT,
            RefusalKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::with_status(status, refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let extra: Option<(HeaderName, &'static str)> = match self.refusal.kind {
            RefusalKind::Unauthorized => Some((WWW_AUTHENTICATE, "Bearer")),
            RefusalKind::Busy => Some((RETRY_AFTER, "1")),
            // What is left of the request is not read.
            RefusalKind::TooLarge | RefusalKind::Slow => Some((CONNECTION, "close")),
            _ => None,
        };
        let mut response = json(&*self.refusal);
        *response.status_mut() = self.status;
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// As JSON in several lines, since people read it with curl.
pub(super) fn json_text(value: &impl Serialize) -> Bytes {
    // What is told here has names for keys, and cannot fail.
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

pub(super) fn json(value: &impl Serialize) -> Response {
    content(JSON, json_text(value))
}

pub(super) fn content(of_type: &'static str, body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, of_type)], body.into()).into_response()
}
