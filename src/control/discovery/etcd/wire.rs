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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::reply;
use crate::config::{DnsName, Endpoint, Etcd};
use crate::control::discovery::Answer;
use crate::control::discovery::ask::{Asker, connect_any};

/// The most bytes of an answer, or of a line of one.
const MOST: usize = 4 << 20;

/// A member.
pub(super) struct Member {
    pub(super) etcd: Arc<Etcd>,
    /// Its place in `endpoints`.
    pub(super) endpoint: usize,
    pub(super) asker: Arc<Asker>,
    /// What it is asked with, where it wants to know who asks.
    pub(super) token: Option<HeaderValue>,
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

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

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
        let why = reply.whole().await.ok().and_then(|body| reply::refusal(&body)).unwrap_or_default();
        Err(format!("HTTP status {}: {why}", head.status.as_u16()))
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let stream = connect_any(&self.addresses().await?).await?;
        // Requests are small: none is to wait for another's acknowledgement.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        if self.endpoint().is_tls { tls::connect(self, stream).await } else { Ok(Box::new(stream)) }
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

#[cfg(target_os = "linux")]
mod tls {
    use std::path::Path;
    use std::sync::Arc;

    use tokio::net::TcpStream;
    use tokio::task::spawn_blocking;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::{Member, Stream};
    use crate::config::Etcd;

    /// The handshake, in which the member proves to be who it is called. The files are read each time: they may be new.
    pub(super) async fn connect(member: &Member, stream: TcpStream) -> Result<Box<dyn Stream>, String> {
        let name = ServerName::try_from(member.endpoint().host.clone()).map_err(|error| error.to_string())?;
        // A file can hang, and nothing else is to wait for it.
        let etcd = Arc::clone(&member.etcd);
        let config = spawn_blocking(move || config(&etcd)).await.map_err(|error| error.to_string())??;
        let connector = TlsConnector::from(Arc::new(config));
        let stream =
            connector.connect(name, stream).await.map_err(|error| format!("no TLS with it: {error}"))?;
        Ok(Box::new(stream))
    }

    fn config(etcd: &Etcd) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        // Whoever has an endpoint with TLS has a `ca`.
        if let Some(ca) = &etcd.ca {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| unreadable(ca, &error))?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let Some((certificate, key)) = &etcd.client else { return Ok(config.with_no_client_auth()) };
        let own = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
        config
            .with_client_auth_cert(certificates(certificate)?, own)
            .map_err(|error| unreadable(certificate, &error))
    }

    fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        let all = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, &error))?;
        let all: Result<Vec<_>, _> = all.collect();
        match all {
            Ok(all) if all.is_empty() => Err(unreadable(path, &"there is no certificate in it")),
            all => all.map_err(|error| unreadable(path, &error)),
        }
    }

    fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> String {
        format!("cannot use {}: {why}", path.display())
    }
}

#[cfg(not(target_os = "linux"))]
mod tls {
    use tokio::net::TcpStream;

    use super::{Member, Stream};

    pub(super) async fn connect(_: &Member, _: TcpStream) -> Result<Box<dyn Stream>, String> {
        Err("this build has no TLS".to_owned())
    }
}
