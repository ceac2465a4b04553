//! Who may ask what.
//!
//! Whoever may open the control socket may do everything. Over TCP a browser on this host may be made to ask by any
//! page that it shows, so a request must be addressed to this host by what nobody else can make its name, and must
//! not come from another page.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, AUTHORIZATION, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use constant_time_eq::constant_time_eq;

use super::super::model::{Refusal, RefusalKind};
use super::super::{Control, page};
use super::App;

/// How requests come in, and what that allows.
#[derive(Clone, Debug)]
pub enum Door {
    /// The control socket.
    Socket,
    /// TCP.
    Http {
        /// Whoever has the token may change things.
        write: bool,
        /// The token is needed to read, too, since others than this host can ask.
        reads_need_token: bool,
        /// The token, if there is one.
        token: Option<Token>,
    },
}

/// What a client has to know. It is never shown.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// The fewest bytes of a token.
    pub const SHORTEST: usize = 16;

    /// The token that is in the text of its file; none if that is too short or has blanks in it.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = text.len() >= Self::SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.into()))
    }

    fn is(&self, given: &str) -> bool {
        constant_time_eq(self.0.as_bytes(), given.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token")
    }
}

impl Door {
    /// Whether things can be changed by it at all.
    pub(super) fn can_write(&self) -> bool {
        match self {
            Self::Socket => true,
            Self::Http { write, .. } => *write,
        }
    }

    /// Whether this request may go on.
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let Self::Http { write, reads_need_token, token } = self else { return Ok(()) };
        let headers = request.headers();
        let authorized = authorized(headers, token.as_ref())?;
        // Who has the token is no page that was led here by a false name.
        if !authorized {
            check_host(request)?;
        }
        check_origin(headers)?;
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if !reads && !write {
            let refusal = Refusal::new(RefusalKind::Forbidden, "HTTP may only read here");
            return Err(refusal.help(
                "use the control socket (`tidegate ctl`), or set http_write and http_token_file in [admin]",
            ));
        }
        let path = request.uri().path();
        let free = matches!(path, "/healthz" | "/readyz") || page::asset(path).is_some();
        if authorized || (reads && (free || !reads_need_token)) {
            return Ok(());
        }
        let refusal = Refusal::new(RefusalKind::Unauthorized, "this needs the token");
        Err(refusal
            .help("send `Authorization: Bearer TOKEN`, with what is in the http_token_file of [admin]"))
    }
}

/// Whether the token was given; a wrong one is refused even where none is needed.
fn authorized(headers: &HeaderMap, token: Option<&Token>) -> Result<bool, Refusal> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = given.next() else { return Ok(false) };
    let bearer = first.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match (token, bearer) {
        (Some(token), Some(bearer)) if given.next().is_none() && token.is(bearer) => Ok(true),
        (None, _) => Ok(false),
        _ => {
            let refusal = Refusal::new(RefusalKind::Unauthorized, "the token is not the right one");
            Err(refusal.help("it is what is in the http_token_file of [admin], read at the start"))
        }
    }
}

/// The name by which this host was asked. A page can make its own name stand for this host (DNS rebinding), but not an
/// address and not `localhost`.
fn check_host(request: &Request) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().unwrap_or("")),
        // Programs that are older than the header have no pages that could mislead them.
        (None, None) if request.version() == Version::HTTP_10 => None,
        _ => return Err(Refusal::new(RefusalKind::Invalid, "the request needs one header `host`")),
    };
    let in_target = request.uri().authority().map(axum::http::uri::Authority::as_str);
    match named.into_iter().chain(in_target).find(|host| !is_this_host(host)) {
        None => Ok(()),
        Some(host) => {
            let message = format!("this host is not asked by the name {host:?}");
            let refusal = Refusal::new(RefusalKind::Forbidden, message);
            Err(refusal.help("use its address or `localhost`, or send the token"))
        }
    }
}

fn is_this_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, ""),
    };
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_address = match bracketed {
        Some(name) => name.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok(),
    };
    port.bytes().all(|byte| byte.is_ascii_digit()) && (is_address || name.eq_ignore_ascii_case("localhost"))
}

/// A page that asks must be one that came from here.
fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let is_ours = |origin: &HeaderValue| {
        let origin = origin.to_str().ok();
        let origin = origin.and_then(|it| it.strip_prefix("http://").or_else(|| it.strip_prefix("https://")));
        origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    };
    match headers.get_all(ORIGIN).iter().find(|origin| !is_ours(origin)) {
        None => Ok(()),
        Some(origin) => {
            let message = format!("a page of {origin:?} may not ask here");
            Err(Refusal::new(RefusalKind::Forbidden, message).help("open this host's own page"))
        }
    }
}

/// Only connections and explanations are chosen by a query, and a page's address may hold what it likes.
fn check_query(request: &Request) -> Result<(), Refusal> {
    let uri = request.uri();
    match uri.query().filter(|query| !query.is_empty()) {
        Some(query) if !matches!(uri.path(), "/" | "/api/v1/connections" | "/api/v1/explain") => {
            let name = query.split(['=', '&']).next().unwrap_or(query);
            let message = format!("unknown query parameter `{name}`: {} takes none", uri.path());
            Err(Refusal::new(RefusalKind::Invalid, message))
        }
        _ => Ok(()),
    }
}

/// What browsers must not do with an answer: guess its type, keep it, show it inside of another page, or load anything
/// that did not come from here.
const CAUTION: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

/// Lets a request through, or answers it with a refusal.
pub(super) async fn guard<C: Control>(
    State(app): State<Arc<App<C>>>,
    request: Request,
    next: Next,
) -> Response {
    let checked = app.door.check(&request).and_then(|()| check_query(&request));
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => super::Refused::from(refusal).into_response(),
    };
    for (name, value) in CAUTION {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_else_can_be_called_is_this_host() {
        for host in ["localhost", "LOCALHOST:9901", "127.0.0.1", "10.0.0.1:80", "[::1]", "[::1]:9901"] {
            assert!(is_this_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:evil",
            "::1",
            "[::1",
            "[evil]:80",
            "user@localhost",
        ] {
            assert!(!is_this_host(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_long_and_plain() {
        assert!(Token::new("0123456789abcdef\n").unwrap().is("0123456789abcdef"));
        for text in ["", "short\n", "0123456789abcde", "0123456789 abcdef", "0123456789abcdef\u{e9}"] {
            assert!(Token::new(text).is_none(), "{text:?}");
        }
        assert_eq!(format!("{:?}", Token::new("0123456789abcdef").unwrap()), "Token");
    }
}
