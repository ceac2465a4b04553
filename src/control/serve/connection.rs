//! One client's connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::timeout;
use tower_service::Service as _;

use super::patience::Patience;

/// How long the head of a request may take, the wait for the next one on a kept connection included.
const HEAD_WAIT: Duration = Duration::from_secs(5);

/// The most header lines of a request.
const MOST_HEADERS: usize = 64;

/// The longest head of a request, and the most of an answer that is held before it is sent.
const BUFFER: usize = 64 << 10;

/// Requests over one connection.
const MOST_REQUESTS: u32 = 1000;

/// What is said to who sends half a head and no more.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n\
      {\"kind\":\"slow\",\"message\":\"the head of the request did not arrive within 5 s\",\"help\":null}\n";

/// Answers requests until the client leaves, rests for too long, or has to make room.
pub(super) async fn answer<Stream>(stream: Stream, answers: Router, mut crowded: watch::Receiver<bool>)
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicU32::new(0));
    let (count, crowd) = (Arc::clone(&asked), crowded.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let last = count.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_REQUESTS;
        let (mut answers, crowd) = (answers.clone(), crowd.clone());
        async move {
            let mut response: Response = answers.call(request).await?;
            if last || *crowd.borrow() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Patience::new(stream));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_headers(MOST_HEADERS)
        .max_header_size(BUFFER)
        .max_buf_size(BUFFER)
        .serve_connection(io, service);
    let mut told = false;
    let result = loop {
        tokio::select! {
            result = &mut connection => break result,
            _ = crowded.wait_for(|crowded| *crowded), if !told => {
                told = true;
                // Who has asked nothing yet is about to.
                if asked.load(Ordering::Relaxed) > 0 {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    };
    if result.is_err_and(|error| error.is_timeout()) {
        let mut stream = connection.into_parts().io.into_inner();
        if stream.is_asking() {
            let _ = timeout(Duration::from_secs(1), stream.write_all(TOO_SLOW)).await;
            let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
        }
    }
}
