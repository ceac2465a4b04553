//! The demo's back ends: small HTTP/1.1 servers that answer each GET with their name.
//!
//! Each is a process of its own, this program started again, so that one can be killed while the proxy runs.
//! It ends when its standard input does: the demo holds the other end of that pipe, so however the demo
//! ends, the system closes it.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::now;
use crate::config;
use crate::say::say;
use crate::sys::signals;

/// What a back end says on its standard output when it listens; anything else there is an error.
const LISTENING: &str = "listening";

/// The longest head of a request in bytes.
const HEAD_SIZE: usize = 8 * 1024;
/// How long a request may take to arrive, counted from the connection or from the answer before.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to make room for the answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// What is still read from a client after the last answer, in bytes and time: closing over unread data
/// would reset the connection, and the client could lose the answer.
const LINGER_SIZE: u64 = 64 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Connections at a time; more wait in the kernel's backlog. Below the usual limit of 1024 descriptors.
const MOST_CONNECTIONS: usize = 512;
const STACK_SIZE: usize = 64 * 1024;

/// The running back ends; dropping ends them.
pub(super) struct BackEnds(Vec<BackEnd>);

/// One running back end.
pub(super) struct BackEnd {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    /// With its standard input, whose end would end the process.
    process: Child,
}

impl BackEnds {
    /// Starts a back end for each server and waits until all listen.
    pub(super) fn start(servers: &[config::Server]) -> anyhow::Result<Self> {
        servers.iter().map(BackEnd::start).collect::<anyhow::Result<_>>().map(Self)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &BackEnd> {
        self.0.iter()
    }
}

impl BackEnd {
    fn start(server: &config::Server) -> anyhow::Result<Self> {
        let config::Server { name, addr, .. } = server;
        let addr = addr.ip().with_context(|| {
            format!("the demo's back ends have IP addresses, and server {name} is at {addr}")
        })?;
        ensure!(
            addr.ip().is_loopback(),
            "the demo starts its back ends on this machine only, and server {name} is at {addr}: \
             give it a loopback address such as 127.0.0.1:{}, or use `tidegate run` with servers of your own",
            addr.port()
        );
        let process = std::env::current_exe()
            .and_then(|program| {
                // Ctrl-C in a terminal is for the proxy: its sessions finish with the back ends alive.
                signals::keep_from_terminal(&mut Command::new(program))
                    .args(["demo-server", "--", name, &addr.to_string()])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
            })
            .with_context(|| format!("cannot start back end {name}"))?;
        let mut back_end = Self { name: name.clone(), addr, process };
        let mut said = String::new();
        if let Some(stdout) = back_end.process.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut said)
                .with_context(|| format!("cannot hear back end {name}"))?;
        }
        match said.trim_end() {
            LISTENING => Ok(back_end),
            "" => bail!("back end {name} ended before it listened on {addr}"),
            error => bail!(
                "back end {name} cannot listen on {addr}: {error}. If another program holds the port, \
                 `ss -ltnp 'sport = :{}'` shows which: end it, or give the demo other addresses with -c FILE",
                addr.port()
            ),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        // It may have been killed before: then there is nothing to end, only to collect.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The whole life of a back end's process: listens on `addr`, says so, and serves until its standard input
/// ends.
///
/// # Errors
/// The standard output or input failed.
pub fn serve(name: &str, addr: SocketAddr) -> anyhow::Result<ExitCode> {
    let listener = match TcpListener::bind(addr) {
        Ok(listener) => listener,
        Err(error) => {
            say(format_args!("{error}\n"))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    say(format_args!("{LISTENING}\n"))?;
    let body = Arc::<str>::from(format!("{name}\n"));
    thread::Builder::new().stack_size(STACK_SIZE).spawn(move || accept_all(&listener, &body))?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(ExitCode::SUCCESS)
}

fn accept_all(listener: &TcpListener, body: &Arc<str>) {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = match connections.load(Ordering::Relaxed) {
            MOST_CONNECTIONS.. => None,
            _ => listener.accept().ok(),
        };
        let Some((stream, _)) = accepted else {
            // At the limit, or out of descriptors: others must end first.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let (body, count) = (Arc::clone(body), Arc::clone(&connections));
        count.fetch_add(1, Ordering::Relaxed);
        let thread = thread::Builder::new().stack_size(STACK_SIZE).spawn(move || {
            // A client that goes away or sends nothing is its own business.
            let _ = talk(stream, &body);
            count.fetch_sub(1, Ordering::Relaxed);
        });
        if thread.is_err() {
            connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Answers the requests of one connection, one after the other.
fn talk(mut stream: TcpStream, body: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    let mut received = Vec::new();
    while let Some(head) = next_head(&mut stream, &mut received)? {
        let answer = Answer::to(&head);
        stream.write_all(answer.text(body).as_bytes())?;
        if !answer.keep_alive {
            break;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(LINGER_TIME))?;
    io::copy(&mut stream.take(LINGER_SIZE), &mut io::sink())?;
    Ok(())
}

/// Takes the next request's head off `received`, reading what is missing. `None` when the client has ended.
/// A head that is too long comes back as far as it was read: it is answered as the junk that it is.
fn next_head(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    const END: &[u8] = b"\r\n\r\n";
    let deadline = now() + HEAD_TIME;
    let mut piece = [0; 2048];
    loop {
        if let Some(start) = received.windows(END.len()).position(|bytes| bytes == END) {
            return Ok(Some(received.drain(..start + END.len()).collect()));
        }
        if received.len() >= HEAD_SIZE {
            return Ok(Some(std::mem::take(received)));
        }
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(length) => received.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How a request is answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: &'static str,
    with_body: bool,
    keep_alive: bool,
}

impl Answer {
    /// The answer to a request with this head (RFC 9112). Only a request without a body leaves the
    /// connection open: bodies are not read here.
    fn to(head: &[u8]) -> Self {
        let refusal = |status| Self { status, with_body: true, keep_alive: false };
        let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let mut words = lines.next().unwrap_or_default().split(|&byte| byte == b' ');
        let (Some(method), Some(_), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return refusal("400 Bad Request");
        };
        if !version.starts_with(b"HTTP/1.") || !head.ends_with(b"\r\n\r\n") {
            return refusal("400 Bad Request");
        }
        if method != b"GET" && method != b"HEAD" {
            return refusal("405 Method Not Allowed");
        }
        let stays = lines.all(|line| {
            let mut parts = line.splitn(2, |&byte| byte == b':');
            let (name, value) =
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().trim_ascii());
            match name.to_ascii_lowercase().as_slice() {
                b"connection" => !value
                    .split(|&byte| byte == b',')
                    .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close")),
                b"content-length" => value == b"0",
                b"transfer-encoding" => false,
                _ => true,
            }
        });
        Self { status: "200 OK", with_body: method == b"GET", keep_alive: stays && version == b"HTTP/1.1" }
    }

    /// The whole answer as it goes over the wire; a refusal has its own name as the body.
    fn text(&self, body: &str) -> String {
        let refusal;
        let body = if self.status == "200 OK" {
            body
        } else {
            refusal = format!("{}\n", self.status);
            &refusal
        };
        format!(
            "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n{}",
            self.status,
            body.len(),
            if self.keep_alive { "keep-alive" } else { "close" },
            if self.with_body { body } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Answer = Answer { status: "200 OK", with_body: true, keep_alive: true };
    const CLOSED: Answer = Answer { status: "200 OK", with_body: true, keep_alive: false };

    #[test]
    fn a_get_is_answered_and_close_is_honoured() {
        for (head, answer) in [
            ("GET / HTTP/1.1\r\n\r\n", KEPT),
            ("GET /any?thing HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", KEPT),
            ("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", KEPT),
            ("GET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n", CLOSED),
            ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", CLOSED),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", CLOSED),
            ("GET / HTTP/1.0\r\n\r\n", CLOSED),
        ] {
            assert_eq!(Answer::to(head.as_bytes()), answer, "{head:?}");
        }
        assert!(!Answer::to(b"HEAD / HTTP/1.1\r\n\r\n").with_body);
    }

    #[test]
    fn junk_is_refused_and_the_connection_closed() {
        for (head, status) in [
            (&b"\r\n\r\n"[..], "400 Bad Request"),
            (b"GET /\r\n\r\n", "400 Bad Request"),
            (b"GET / HTTP/2\r\n\r\n", "400 Bad Request"),
            (b"\x16\x03\x01\x00\xff\xfe\r\n\r\n", "400 Bad Request"),
            (b"GET / HTTP/1.1\r\nToo-Long: never ends", "400 Bad Request"),
            (b"POST / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ] {
            let answer = Answer::to(head);
            assert_eq!((answer.status, answer.keep_alive), (status, false), "{}", head.escape_ascii());
        }
    }

    #[test]
    fn the_length_is_the_body_s() {
        assert!(KEPT.text("alpha\n").contains("Content-Length: 6\r\nConnection: keep-alive\r\n\r\nalpha\n"));
        assert!(CLOSED.text("alpha\n").contains("Connection: close\r\n\r\nalpha\n"));
        let to_head = Answer { with_body: false, ..KEPT };
        assert!(to_head.text("alpha\n").ends_with("Content-Length: 6\r\nConnection: keep-alive\r\n\r\n"));
    }
}
