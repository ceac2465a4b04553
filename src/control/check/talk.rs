//! What servers are asked that speak in lines: steps from the configuration, HTTP, Redis, SMTP.

use std::error::Error;
use std::ops::RangeInclusive;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Version};
use hyper_util::rt::TokioIo;

use super::wire::Wire;
use super::{Found, Trouble, Verdict};
use crate::config::{Address, Step};

fn said(reason: impl Into<String>) -> Trouble {
    Trouble::Said(reason.into())
}

pub(super) async fn steps(wire: &mut Wire, steps: &[Step]) -> Found {
    for (number, step) in (1..).zip(steps) {
        wire.step = Some(number);
        match step {
            Step::Send(bytes) => wire.send(bytes).await?,
            Step::Expect(bytes) => drop(wire.up_to(bytes).await?),
        }
    }
    Ok(format!("all {} steps", steps.len()))
}

/// Only the head of the answer is read.
pub(super) async fn http(
    wire: &mut Wire,
    addr: &Address,
    path: &str,
    status: &[RangeInclusive<u16>],
) -> Found {
    let host = addr.ip().map_or_else(|| "localhost".to_owned(), |at| at.to_string());
    let request = Request::get(path)
        .version(Version::HTTP_11)
        .header(HOST, host)
        .header(USER_AGENT, "tidegate")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| said(error.to_string()))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(wire)).await.map_err(|error| unclear(&error))?;
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer,
        Err(error) = connection => Err(error),
    };
    let code = answer.map_err(|error| unclear(&error))?.status().as_u16();
    if status.iter().any(|range| range.contains(&code)) {
        Ok(format!("HTTP status {code}"))
    } else {
        Err(said(format!("HTTP status {code}")))
    }
}

/// Why there was no answer: what is at the bottom of it, since what is above only says that it has failed.
fn unclear(error: &hyper::Error) -> Trouble {
    let mut bottom: &dyn Error = error;
    while let Some(deeper) = bottom.source() {
        bottom = deeper;
    }
    match bottom.downcast_ref().map(super::why) {
        Some((Verdict::Unable, reason)) => Trouble::Here(reason),
        Some((_, reason)) => said(format!("no HTTP answer: {reason}")),
        None if error.is_incomplete_message() => said("no HTTP answer: it closed the connection"),
        None => said(format!("no HTTP answer: {bottom}")),
    }
}

/// <https://redis.io/docs/latest/commands/ping/>. One that asks for a password answers, which is what is asked.
pub(super) async fn redis(wire: &mut Wire) -> Found {
    wire.send(b"PING\r\n").await?;
    let answer = wire.line().await?;
    let _ = wire.send(b"QUIT\r\n").await;
    match answer.as_str() {
        "+PONG" => Ok("PONG".to_owned()),
        asks if asks.starts_with("-NOAUTH") => Ok("it asks for a password".to_owned()),
        other => Err(said(format!("no PONG: {}", shown(other)))),
    }
}

/// <https://redis.io/docs/latest/commands/role/>: an array that begins with the role.
pub(super) async fn redis_master(wire: &mut Wire) -> Found {
    wire.send(b"ROLE\r\n").await?;
    let head = wire.line().await?;
    if !head.starts_with('*') {
        let _ = wire.send(b"QUIT\r\n").await;
        let reason = match head.starts_with("-NOAUTH") {
            true => "it tells its role only to who has a password".to_owned(),
            false => format!("no role: {}", shown(&head)),
        };
        return Err(said(reason));
    }
    let _ = wire.line().await?;
    let role = wire.line().await?;
    let _ = wire.send(b"QUIT\r\n").await;
    if role == "master" {
        Ok("it is a master".to_owned())
    } else {
        Err(said(format!("it is a {}", shown(&role))))
    }
}

/// RFC 5321: the greeting, EHLO, QUIT.
pub(super) async fn smtp(wire: &mut Wire) -> Found {
    let greeting = reply(wire).await?;
    if !greeting.starts_with("220") {
        let _ = wire.send(b"QUIT\r\n").await;
        return Err(said(format!("greeting: {}", shown(&greeting))));
    }
    wire.send(b"EHLO localhost\r\n").await?;
    let answer = reply(wire).await?;
    // It has said what was asked; whether it says good-bye, and how soon, is its own affair.
    let _ = wire.send(b"QUIT\r\n").await;
    if answer.starts_with("250") {
        Ok(shown(&greeting))
    } else {
        Err(said(format!("EHLO: {}", shown(&answer))))
    }
}

/// The last line of a reply, whose lines before it have a `-` behind the code.
async fn reply(wire: &mut Wire) -> std::io::Result<String> {
    loop {
        let line = wire.line().await?;
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line);
        }
    }
}

/// The beginning of what a server says, as it can be shown to people.
pub(super) fn shown(text: &str) -> String {
    let clean: String =
        text.chars().take(100).map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    clean.trim().to_owned()
}
