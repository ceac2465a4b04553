//! What is asked without changing anything.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream::try_unfold;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{self, spawn_blocking};
use tokio::time::timeout;

use super::super::metrics::{self, Format};
use super::super::model::{Filter, Phase, Question, Refusal, RefusalKind, Status};
use super::super::select::Query;
use super::super::{Control, Cursor, page as web};
use super::answer::{Answer, JSON, Refused, content, json_text};
use super::{ANSWER_WAIT, App, Door, METRICS_AGE, STATUS_AGE};

/// Whether clients may change things, in the answer to what they may see.
const WRITES: HeaderName = HeaderName::from_static("tidegate-writes");

pub(super) async fn page(uri: Uri) -> Answer {
    match web::asset(uri.path()) {
        Some((of_type, bytes)) => Ok(content(of_type, bytes)),
        None => Err(super::nothing_here(uri).await),
    }
}

pub(super) async fn health() -> &'static str {
    "ok\n"
}

pub(super) async fn readiness<C: Control>(State(app): State<Arc<App<C>>>) -> Answer {
    let status = app.status().await?;
    let phase = match status.phase {
        Phase::Serving if status.ready => "ready\n",
        Phase::Serving => "not ready\n",
        Phase::Draining => "draining\n",
        Phase::Stopping => "stopping\n",
    };
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((code, phase).into_response())
}

pub(super) async fn description() -> Response {
    content(JSON, include_str!("../../../docs/openapi.json"))
}

pub(super) async fn metrics<C: Control>(State(app): State<Arc<App<C>>>, headers: HeaderMap) -> Answer {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    let format = Format::preferred(accept);
    let kept = match format {
        Format::OpenMetrics => &app.open_metrics,
        Format::Text => &app.text_metrics,
    };
    let text = kept.get(METRICS_AGE, async {
        let status = app.status().await?;
        let per_server = app.control.has_metrics_per_server();
        elsewhere(move || metrics::render(&status, per_server, format).into()).await
    });
    Ok(content(format.content_type(), text.await?))
}

pub(super) async fn status<C: Control>(State(app): State<Arc<App<C>>>) -> Answer {
    let text = app.status_text.get(app.age(), async {
        let status = app.status().await?;
        elsewhere(move || json_text(&*status)).await
    });
    let mut response = content(JSON, text.await?);
    let writes = if app.door.can_write() { "on" } else { "off" };
    response.headers_mut().insert(WRITES, HeaderValue::from_static(writes));
    Ok(response)
}

pub(super) async fn config<C: Control>(State(app): State<Arc<App<C>>>) -> Answer {
    let text = timeout(ANSWER_WAIT, app.control.dump()).await.map_err(|_| no_answer())?;
    Ok(content("application/toml", text))
}

pub(super) async fn explain<C: Control>(State(app): State<Arc<App<C>>>, uri: Uri) -> Answer {
    let question = Question::parse(uri.query().unwrap_or(""))?;
    let explained = timeout(ANSWER_WAIT, app.control.explain(&question)).await.map_err(|_| no_answer())??;
    Ok(content(JSON, json_text(&explained)))
}

pub(super) async fn connections<C: Control>(State(app): State<Arc<App<C>>>, uri: Uri) -> Answer {
    let Query { filter, paths, limit } = Query::parse(uri.query().unwrap_or(""))?;
    let permit = app.permit()?;
    let mut walk = Walk {
        control: Arc::clone(&app.control),
        filter,
        paths,
        left: limit.unwrap_or(u64::MAX),
        at: Some(Cursor::default()),
        _permit: permit,
    };
    // The first piece tells whether there will be an answer at all.
    let first = walk.piece().await?;
    let pieces = try_unfold((first, walk), async |(ready, mut walk)| {
        let piece = match ready {
            Some(piece) => Some(piece),
            None => walk.piece().await?,
        };
        Ok::<_, Refusal>(piece.map(|piece| (piece, (None, walk))))
    });
    Ok(content("application/x-ndjson", Body::from_stream(pieces)))
}

/// A walk over the live connections. It goes on when the client has taken what was found before.
struct Walk<C> {
    control: Arc<C>,
    filter: Filter,
    paths: bool,
    left: u64,
    /// Where it goes on; nowhere at the end.
    at: Option<Cursor>,
    /// Only so many walk at a time.
    _permit: OwnedSemaphorePermit,
}

impl<C: Control> Walk<C> {
    /// The next lines; none at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Refusal> {
        while let Some(at) = self.at.filter(|_| self.left > 0) {
            let asked = self.control.connections(&self.filter, Some(at), self.paths);
            let (connections, next) = timeout(ANSWER_WAIT, asked).await.map_err(|_| no_answer())??;
            self.at = next;
            let mut lines = Vec::new();
            for connection in connections {
                if self.left == 0 {
                    break;
                }
                self.left -= 1;
                lines.extend(serde_json::to_vec(&connection).unwrap_or_default());
                lines.push(b'\n');
            }
            if !lines.is_empty() {
                return Ok(Some(lines.into()));
            }
            // A filter that fits few may look at many: others are to get their turn.
            task::yield_now().await;
        }
        Ok(None)
    }
}

impl<C: Control> App<C> {
    /// How old the state may be. Who came in by the control socket sees what has just changed.
    fn age(&self) -> Duration {
        match self.door {
            Door::Socket => Duration::ZERO,
            Door::Http { .. } => STATUS_AGE,
        }
    }

    async fn status(&self) -> Result<Arc<Status>, Refusal> {
        let asked = async {
            timeout(ANSWER_WAIT, self.control.status()).await.map(Arc::new).map_err(|_| no_answer())
        };
        self.status.get(self.age(), asked).await
    }

    /// Room for one more walk, or change.
    pub(super) fn permit(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.at_work).try_acquire_owned().map_err(|_| {
            let refusal = Refusal::new(RefusalKind::Busy, "too much is asked at the same time");
            refusal.help("try again in a second").into()
        })
    }
}

/// Does on another thread what takes long where there is much to tell.
async fn elsewhere(make: impl FnOnce() -> Bytes + Send + 'static) -> Result<Bytes, Refusal> {
    spawn_blocking(make).await.map_err(|_| Refusal::new(RefusalKind::Busy, "the process is ending"))
}

pub(super) fn no_answer() -> Refusal {
    let message = format!("the control thread did not answer within {} s", ANSWER_WAIT.as_secs());
    Refusal::new(RefusalKind::Busy, message).help("a change that was asked for may still be made")
}
