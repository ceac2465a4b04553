//! Requests to one member of etcd, over HTTP/1.1. Each has a connection of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::reply;
use crate::config::{DnsName, Endpoint, Etcd};
use crate::control::discovery::Answer;
use crate::control::discovery::ask::{Asker, connect_any};
use crate::control::discovery::reading::Reading;
use crate::control::discovery::tls::{self, Stream};

/// The most bytes of an answer, or of a line of one.
const MOST: usize = 4 << 20;

/// A member.
pub(super) struct Member {
    pub(super) etcd: Arc<Etcd>,
    pub(super) files: Arc<Files>,
    /// Its place in `endpoints`.
    pub(super) endpoint: usize,
    pub(super) asker: Arc<Asker>,
    /// What it is asked with, where it wants to know who asks.
    pub(super) token: Option<HeaderValue>,
}

/// Files that are read for it.
#[derive(Default)]
pub(super) struct Files {
    pub(super) password: Reading<String>,
    tls: tls::Files,
}

/// An answer whose body has yet to come.
pub(super) struct Reply {
    body: Incoming,
    /// What has come of the body and was not looked at.
    ahead: BytesMut,
    /// Bytes of it in which there is no end of a line.
    searched: usize,
    /// Drives the connection, and ends with it.
    _connection: JoinSet<()>,
}

impl Member {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.etcd.endpoints[self.endpoint]
    }

    /// Asks, and has the whole answer.
    pub(super) async fn ask(&self, path: &str, body: String) -> Result<Bytes, String> {
        self.post(path, body).await?.whole().await
    }

    /// Asks; the body of the answer is read by who asks.
    pub(super) async fn post(&self, path: &str, body: String) -> Result<Reply, String> {
        let mut request = Request::post(path)
            .header(HOST, self.endpoint().authority())
            .header(USER_AGENT, "tidegate")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
        let unclear = |error: hyper::Error| format!("no HTTP answer: {error}");
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(unclear)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        let (head, body) = sender.send_request(request).await.map_err(unclear)?.into_parts();
        let reply = Reply { body, ahead: BytesMut::new(), searched: 0, _connection: driver };
        if head.status == StatusCode::OK {
            return Ok(reply);
        }
        let why = reply.whole().await.map_or_else(|why| why, |body| reply::refusal(&body));
        Err(format!("HTTP status {}: {why}", head.status.as_u16()))
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let stream = connect_any(&self.addresses().await?).await?;
        // Requests are small: none is to wait for another's acknowledgement.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let Endpoint { is_tls, host, .. } = self.endpoint();
        tls::wrap(stream, host, self.etcd.tls.as_ref().filter(|_| *is_tls), &self.files.tls).await
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let Endpoint { host, port, .. } = self.endpoint();
        if let Some(ip) = self.endpoint().ip() {
            return Ok(vec![SocketAddr::new(ip, *port)]);
        }
        match self.asker.ask(&DnsName::Host(host.clone(), *port)).await {
            Answer::Found { servers, .. } => Ok(servers.iter().map(|found| found.addr).collect()),
            Answer::Missing(why) | Answer::Failed(why) => Err(format!("{host} cannot be looked up: {why}")),
        }
    }
}

impl Reply {
    async fn whole(self) -> Result<Bytes, String> {
        match Limited::new(self.body, MOST).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_long()),
            Err(error) => Err(format!("the answer is cut off: {error}")),
        }
    }

    /// The next line, without its end. Who gives up waiting for it may ask again: nothing is lost.
    pub(super) async fn line(&mut self) -> Result<Bytes, String> {
        loop {
            if let Some(at) = self.ahead[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.ahead.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                return Ok(line.slice(..line.len() - 1));
            }
            self.searched = self.ahead.len();
            if self.searched > MOST {
                return Err(too_long());
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.ahead.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return Err(format!("the watch is cut off: {error}")),
                None => return Err("it ended the watch".to_owned()),
            }
        }
    }
}

fn too_long() -> String {
    format!("it answers with more than {} MiB", MOST >> 20)
}
