//! Asks a running process over its control socket.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::model::{Refusal, RefusalKind, Status};
use super::select::Query;

/// How long an answer is waited for: longer than the other side takes to say that there is none.
const WAIT: Duration = Duration::from_secs(75);

/// Whom to ask. One question at a time, and its caller waits.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nobody listens, or not to us.
    #[error("{0}")]
    Unreachable(String),
    /// The process refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The answer broke off, or makes no sense.
    #[error("{0}")]
    Broken(String),
    /// What was answered cannot be passed on.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// What is sent along.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    None,
    /// A JSON value.
    Json(serde_json::Value),
    /// A configuration.
    Toml(String),
}

impl Client {
    /// Asks whoever listens on `socket`; not yet.
    ///
    /// # Errors
    /// The operating system's, when there is nothing to wait with.
    pub fn new(socket: &Path) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { socket: socket.to_owned(), runtime })
    }

    /// The whole state.
    ///
    /// # Errors
    /// Why there is none.
    pub fn status(&self) -> Result<Status, Fault> {
        self.ask(Method::GET, "/api/v1/status", Body::None)
    }

    /// Gives every live connection that fits to `each` as a line of JSON, until that says `false`.
    ///
    /// # Errors
    /// Why there are none, or no more.
    pub fn connections(
        &self,
        query: &Query,
        mut each: impl FnMut(&str) -> io::Result<bool>,
    ) -> Result<(), Fault> {
        self.runtime.block_on(async {
            let target = format!("/api/v1/connections?{query}");
            let response = self.send(Method::GET, &target, Body::None).await?;
            let mut body = response.into_body();
            let mut text = Vec::new();
            while let Some(frame) = timely(body.frame()).await? {
                let frame = frame.map_err(|error| broken(&error))?;
                text.extend(frame.into_data().unwrap_or_default());
                let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                let lines = String::from_utf8_lossy(&text[..whole]).into_owned();
                text.drain(..whole);
                for line in lines.lines() {
                    if !each(line)? {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    /// Asks, and gives the answer as what it stands for.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn ask<T: DeserializeOwned>(&self, method: Method, target: &str, body: Body) -> Result<T, Fault> {
        let text = self.ask_text(method, target, body)?;
        serde_json::from_str(&text)
            .map_err(|error| Fault::Broken(format!("the answer is of another version of tidegate: {error}")))
    }

    /// Asks, and gives the answer as it is.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn ask_text(&self, method: Method, target: &str, body: Body) -> Result<String, Fault> {
        self.runtime.block_on(async {
            let response = self.send(method, target, body).await?;
            text(response).await
        })
    }

    /// Sends a request, and gives an answer that is no refusal.
    async fn send(&self, method: Method, target: &str, body: Body) -> Result<Response<Incoming>, Fault> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        tokio::spawn(connection);
        let (of_type, bytes) = match body {
            Body::None => (None, Bytes::new()),
            Body::Json(value) => (Some("application/json"), value.to_string().into()),
            Body::Toml(text) => (Some("application/toml"), text.into()),
        };
        let mut request = Request::builder().method(method).uri(target).header(HOST, "localhost");
        if let Some(of_type) = of_type {
            request = request.header(CONTENT_TYPE, of_type);
        }
        let request = request.body(Full::new(bytes)).map_err(|error| Fault::Broken(error.to_string()))?;
        let response = timely(sender.send_request(request)).await?.map_err(|error| broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = text(response).await?;
        Err(match serde_json::from_str::<Refusal>(&text) {
            Ok(refusal) if refusal.kind == RefusalKind::Busy => Fault::Broken(refusal.to_string()),
            Ok(refusal) => Fault::Refused(refusal),
            Err(_) => Fault::Broken(format!("{} answers {status}", self.socket.display())),
        })
    }

    fn unreachable(&self, error: &io::Error) -> Fault {
        let socket = self.socket.display();
        let (cause, help) = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => (
                format!("nobody listens on {socket}"),
                "`tidegate run` listens there when its configuration has a table [admin]; --socket or -c names \
                 another place",
            ),
            ErrorKind::PermissionDenied => (
                format!("{socket} may not be opened by this user"),
                "ask as the user that runs tidegate, or as root; `socket_mode` in [admin] can let others in",
            ),
            _ => (format!("cannot connect to {socket}: {error}"), "is tidegate running?"),
        };
        Fault::Unreachable(format!("{cause}\n  = help: {help}"))
    }
}

async fn text(response: Response<Incoming>) -> Result<String, Fault> {
    let bytes = timely(response.into_body().collect()).await?.map_err(|error| broken(&error))?.to_bytes();
    String::from_utf8(bytes.into()).map_err(|_| Fault::Broken("the answer is no text".to_owned()))
}

async fn timely<T>(answer: impl Future<Output = T>) -> Result<T, Fault> {
    let late = |_| Fault::Broken(format!("no answer within {} s", WAIT.as_secs()));
    timeout(WAIT, answer).await.map_err(late)
}

fn broken(error: &hyper::Error) -> Fault {
    Fault::Broken(format!("the answer broke off: {error}"))
}
