//! Asking a server whether it is well. A check has its time and a bounded number of bytes, whatever the server does.

mod exec;
mod mysql;
mod postgres;
mod talk;
#[cfg(target_os = "linux")]
mod tls;
mod wire;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::config::{Address, CheckClose, Kind, Probe, Tcp};
use crate::proxy_header::{self, Told, Version};
use crate::relay::Fault;
use crate::sys::net;
use wire::{KEPT, Wire};

/// How long a server may take to answer the end of a check's connection.
const FAREWELL: Duration = Duration::from_millis(500);

/// What is asked, and how: checks that are alike are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where.
    pub addr: Address,
    /// What, and how often.
    pub probe: Probe,
    /// Options of the socket: a check takes the way that connections take.
    pub tcp: Tcp,
    /// Its own address, if the system is not to choose one.
    pub source: Option<IpAddr>,
    /// The header that the server expects first. A check is a connection of the proxy's own, and is told as such.
    pub send_proxy: Option<Version>,
}

/// How a check has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server is well.
    Passed,
    /// It is not.
    Failed,
    /// It could not be asked, for want of something here.
    Unable,
}

impl Verdict {
    /// Their names, in their order.
    pub const NAMES: [&str; 3] = ["passed", "failed", "unable"];
}

/// What a check has found.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it has ended.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: String,
    /// The last bytes that came from the server, as many as are kept: 64.
    pub received: Vec<u8>,
    /// How long it took.
    pub took: Duration,
    /// When the certificate that the server has shown ends, in seconds since 1970; none without one that can be read.
    pub certificate_ends: Option<u64>,
}

/// Why a check did not pass.
enum Trouble {
    /// An operation on the connection.
    Io(io::Error),
    /// What the server said, or did not.
    Said(String),
    /// Something is missing here.
    Here(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a check finds out: why it passed, or did not.
type Found = Result<String, Trouble>;

/// A connection that has yet to be ended as it should.
pub struct Farewell(Option<Wire>);

impl Farewell {
    /// Ends it. Without a reset, since a server may write a line to its log for each.
    pub async fn say(self) {
        if let Some(mut wire) = self.0 {
            let _ = timeout(FAREWELL, wire.finish()).await;
        }
    }
}

impl Target {
    /// Asks once.
    pub async fn check(&self) -> (Report, Farewell) {
        let began = Instant::now();
        let limit = self.probe.timeout;
        if let Kind::Exec(argv) = &self.probe.kind {
            let (found, received) = exec::run(argv, &self.addr, limit).await;
            let late = || Err(Trouble::Said(format!("it has not ended within {limit:?}")));
            return (report(found.unwrap_or_else(late), received, began.elapsed()), Farewell(None));
        }
        let wire = timeout(limit, Wire::connect(self)).await;
        let wire = wire.map_or_else(|_| Err(no_answer(limit)), |wire| wire.map_err(Trouble::from));
        let mut wire = match wire {
            Ok(wire) => wire,
            Err(trouble) => return (report(Err(trouble), Vec::new(), began.elapsed()), Farewell(None)),
        };
        let left = limit.saturating_sub(began.elapsed());
        let found = timeout(left, self.introduce_and_ask(&mut wire)).await;
        let found = found.unwrap_or_else(|_| Err(late(&wire, limit)));
        let mut report = report(found, wire.received(), began.elapsed());
        if report.verdict != Verdict::Passed
            && let Some(step) = wire.step
        {
            report.reason.insert_str(0, &format!("step {step}: "));
        }
        let report = Report { certificate_ends: wire.certificate_ends, ..report };
        if self.probe.close == CheckClose::Rst {
            wire.reset();
            return (report, Farewell(None));
        }
        (report, Farewell(Some(wire)))
    }

    async fn introduce_and_ask(&self, wire: &mut Wire) -> Found {
        if let Some(version) = self.send_proxy {
            wire.send(proxy_header::encode(version, Told::LOCAL).as_bytes()).await?;
        }
        self.ask(wire).await
    }

    async fn ask(&self, wire: &mut Wire) -> Found {
        match &self.probe.kind {
            Kind::Tcp | Kind::Exec(_) => Ok("connected".to_owned()),
            Kind::SendExpect(steps) => talk::steps(wire, steps).await,
            Kind::Http { path, status } => talk::http(wire, &self.addr, path, status).await,
            #[cfg(target_os = "linux")]
            Kind::Tls { sni } => tls::shake_hands(wire, &self.addr, sni).await,
            #[cfg(not(target_os = "linux"))]
            Kind::Tls { .. } => Err(Trouble::Said("this build has no TLS".to_owned())),
            Kind::Postgres => postgres::ask(wire).await,
            Kind::Mysql => mysql::ask(wire).await,
            Kind::Redis => talk::redis(wire).await,
            Kind::RedisMaster => talk::redis_master(wire).await,
            Kind::Smtp => talk::smtp(wire).await,
        }
    }
}

fn report(found: Found, received: Vec<u8>, took: Duration) -> Report {
    let (verdict, reason) = match found {
        Ok(reason) => (Verdict::Passed, reason),
        Err(Trouble::Said(reason)) => (Verdict::Failed, reason),
        Err(Trouble::Here(reason)) => (Verdict::Unable, reason),
        Err(Trouble::Io(error)) => why(&error),
    };
    Report { verdict, reason, received, took, certificate_ends: None }
}

fn no_answer(limit: Duration) -> Trouble {
    Trouble::Said(format!("no answer within {limit:?}"))
}

/// Time ran out. What the server has said, and is not what is expected, is shown from its beginning, where errors stand.
fn late(wire: &Wire, limit: Duration) -> Trouble {
    let last = wire.received();
    let answer = match wire.unfit() {
        // Who takes bytes from the socket itself leaves none.
        [] if wire.step.is_none() => &*last,
        unfit => &unfit[..unfit.len().min(KEPT)],
    };
    if answer.is_empty() {
        return no_answer(limit);
    }
    let answer = answer.escape_ascii();
    Trouble::Said(format!("it answered, but not with what is expected ({answer}) within {limit:?}"))
}

/// An error of the connection in words, and whose it is.
fn why(error: &io::Error) -> (Verdict, String) {
    let fault = net::fault(error);
    let verdict = if fault.is_of_server() { Verdict::Failed } else { Verdict::Unable };
    let reason = match fault {
        _ if error.kind() == io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        Fault::Other(0) => error.to_string(),
        fault => fault.to_string(),
    };
    (verdict, reason)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_told_from_one_where_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("left");
        drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
        for (path, reason) in
            [(folder.path().join("none"), "there is no such socket"), (left, "connection refused")]
        {
            let (probe, tcp) = (Probe::default(), Tcp::default());
            let target = Target { addr: Address::Unix(path), probe, tcp, source: None, send_proxy: None };
            let (report, _) = target.check().await;
            assert_eq!((report.verdict, report.reason.as_str()), (Verdict::Failed, reason));
        }
    }
}
