//! A list at a web server, asked for by HTTP/1.1 (RFC 9112), with TLS or without. Whatever comes of it ends this look only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, ETAG, HOST, HeaderValue, IF_NONE_MATCH, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::ask::{Asker, connect_any};
use super::super::parse::{printable, with_sample};
use super::super::tls::{self, Stream};
use super::super::{Answer, LARGEST_LIST, Look};
use super::Seen;
use crate::config::{DnsName, ListHost, ListUrl};

/// A look takes as long as `servers_poll` at most, but within these.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// The longest head of an answer, in bytes.
const LARGEST_HEAD: usize = 64 << 10;

/// Who asks for a list.
pub(super) struct Url {
    at: ListUrl,
    asker: Arc<Asker>,
    patience: Duration,
    seen: Seen,
    /// What the server calls the list that was taken: if it still has that one, it need not send it.
    etag: Option<HeaderValue>,
    files: tls::Files,
}

/// What an answer amounts to.
enum Got {
    Body(Vec<u8>, Option<HeaderValue>),
    NotModified,
    /// No list.
    Wrong(String),
}

impl Url {
    pub(super) fn new(at: ListUrl, poll: Duration, asker: Arc<Asker>) -> Self {
        let patience = poll.clamp(PATIENCE[0], PATIENCE[1]);
        Self { at, asker, patience, seen: Seen::default(), etag: None, files: tls::Files::default() }
    }

    pub(super) async fn look(&mut self) -> Look {
        let got = timeout(self.patience, self.fetch()).await;
        let got = got.unwrap_or_else(|_| Err(format!("no whole answer within {:?}", self.patience)));
        match got {
            Ok(Got::NotModified) => Look::Same,
            Ok(Got::Body(bytes, etag)) => {
                let look = self.seen.judge(bytes);
                self.etag = etag.filter(|_| matches!(look, Look::Taken(_) | Look::Same));
                look
            }
            Ok(Got::Wrong(why)) => {
                self.etag = None;
                Look::Refused(printable(&why))
            }
            Err(why) => Look::Failed(printable(&why)),
        }
    }

    async fn fetch(&self) -> Result<Got, String> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| told(&error))?;
        // Ends with this look, however that ends.
        let mut under_way = JoinSet::new();
        under_way.spawn(connection);
        let request = self.request()?;
        let response = sender.send_request(request).await.map_err(|error| told(&error))?;
        self.read(response).await
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let (all, host) = match &self.at.host {
            ListHost::At(addr) => (vec![*addr], addr.ip().to_string()),
            ListHost::Named(name) => (self.addresses(name).await?, name.host().to_owned()),
        };
        let stream = connect_any(&all).await?;
        tls::wrap(stream, &host, self.at.tls.as_ref(), &self.files).await
    }

    async fn addresses(&self, name: &DnsName) -> Result<Vec<SocketAddr>, String> {
        match self.asker.ask(name).await {
            Answer::Found { servers, .. } => Ok(servers.into_iter().map(|found| found.addr).collect()),
            Answer::Missing(why) | Answer::Failed(why) => Err(format!("{name}: {why}")),
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, String> {
        let mut request = Request::builder()
            .uri(&self.at.target)
            .header(HOST, self.at.host.to_string())
            .header(USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json, application/toml, text/plain, */*;q=0.1")
            .header(CONNECTION, "close");
        if let Some(etag) = &self.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        request.body(Empty::new()).map_err(|error| error.to_string())
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Got, String> {
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if self.etag.is_some() => return Ok(Got::NotModified),
            status if status.is_redirection() => {
                return Err(format!("it answers {status}: redirections are not followed"));
            }
            status => return Err(format!("it answers {status}")),
        }
        let (head, mut body) = response.into_parts();
        // Where it ends with the connection, a list that was cut off could be taken for a shorter one.
        if !head.headers.contains_key(CONTENT_LENGTH) && !head.headers.contains_key(TRANSFER_ENCODING) {
            return Err("its answer does not say how long it is".to_owned());
        }
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| told(&error))?;
            bytes.extend(frame.into_data().unwrap_or_default());
            if bytes.len() > LARGEST_LIST {
                let why = format!("it is longer than {LARGEST_LIST} bytes");
                return Ok(Got::Wrong(with_sample(why, &bytes)));
            }
        }
        Ok(Got::Body(bytes, head.headers.get(ETAG).cloned()))
    }
}

/// An error with what has caused it.
fn told(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
