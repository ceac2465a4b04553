//! What can be asked over HTTP: the same over the control socket and over TCP, described in `docs/openapi.json`.

mod answer;
mod guard;
mod kept;
mod read;
mod request;
mod write;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::{MethodRouter, get, post, put};
use tokio::sync::Semaphore;

use self::answer::Refused;
pub use self::guard::{Door, Token};
use self::kept::Kept;
use super::Control;
use super::model::{Refusal, RefusalKind, Status};

/// The largest body that is read, in bytes.
pub const LARGEST_BODY: usize = 1 << 20;

/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// How long an answer of the control room is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Walks over connections, and changes, that may be under way at a time.
const MOST_AT_WORK: usize = 8;

/// How long metrics are given out again. Prometheus asks less often, and a storm of scrapes costs nothing.
const METRICS_AGE: Duration = Duration::from_secs(1);

/// How long the state is given out again to clients that nobody has let in by name.
const STATUS_AGE: Duration = Duration::from_millis(100);

/// What all requests through one door share.
struct App<C> {
    control: Arc<C>,
    door: Door,
    status: Kept<Arc<Status>>,
    status_text: Kept<Bytes>,
    open_metrics: Kept<Bytes>,
    text_metrics: Kept<Bytes>,
    at_work: Arc<Semaphore>,
}

/// A part of the API: its method, its path, and who answers.
type Route<C> = (Method, &'static str, MethodRouter<Arc<App<C>>>);

fn routes<C: Control>() -> Vec<Route<C>> {
    vec![
        (Method::GET, "/", get(read::page)),
        (Method::GET, "/page.css", get(read::page)),
        (Method::GET, "/page.js", get(read::page)),
        (Method::GET, "/icon.svg", get(read::page)),
        (Method::GET, "/healthz", get(read::health)),
        (Method::GET, "/readyz", get(read::readiness::<C>)),
        (Method::GET, "/metrics", get(read::metrics::<C>)),
        (Method::GET, "/api/v1/openapi.json", get(read::description)),
        (Method::GET, "/api/v1/status", get(read::status::<C>)),
        (Method::GET, "/api/v1/connections", get(read::connections::<C>)),
        (Method::GET, "/api/v1/explain", get(read::explain::<C>)),
        (Method::GET, "/api/v1/config", get(read::config::<C>)),
        (Method::POST, "/api/v1/diff", post(write::diff::<C>)),
        (Method::POST, "/api/v1/reload", post(write::reload::<C>)),
        (Method::POST, "/api/v1/reload/confirm", post(write::confirm::<C>)),
        (Method::POST, "/api/v1/reload/rollback", post(write::roll_back::<C>)),
        (Method::POST, "/api/v1/kill", post(write::kill::<C>)),
        (Method::POST, "/api/v1/pools/{pool}/rebalance", post(write::rebalance::<C>)),
        (Method::PUT, "/api/v1/pools/{pool}/servers/{server}/state", put(write::state::<C>)),
        (Method::PUT, "/api/v1/pools/{pool}/servers/{server}/weight", put(write::weight::<C>)),
        (Method::PUT, "/api/v1/log-level", put(write::log_level::<C>)),
    ]
}

/// Everything that can be asked, as methods and paths.
#[must_use]
pub fn endpoints<C: Control>() -> Vec<(Method, &'static str)> {
    routes::<C>().into_iter().map(|(method, path, _)| (method, path)).collect()
}

/// Answers what comes in by `door`.
pub fn router<C: Control>(control: Arc<C>, door: Door) -> Router {
    let app = Arc::new(App {
        control,
        door,
        status: Kept::default(),
        status_text: Kept::default(),
        open_metrics: Kept::default(),
        text_metrics: Kept::default(),
        at_work: Arc::new(Semaphore::new(MOST_AT_WORK)),
    });
    routes()
        .into_iter()
        .fold(Router::new(), |router, (_, path, handler)| router.route(path, handler))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard::<C>))
        .with_state(app)
}

async fn nothing_here(uri: Uri) -> Refused {
    let refusal = Refusal::new(RefusalKind::NotFound, format!("there is no {}", uri.path()));
    refusal.help("GET /api/v1/openapi.json lists what there is").into()
}

async fn not_so(method: Method, uri: Uri) -> Refused {
    let message = format!("{} cannot be asked with {method}", uri.path());
    let refusal = Refusal::new(RefusalKind::Invalid, message).help("the header `allow` lists what it takes");
    Refused::with_status(StatusCode::METHOD_NOT_ALLOWED, refusal)
}
