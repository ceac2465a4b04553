//! A proxy that records what it does, one client, one server, and the request that they exchange.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use tempfile::TempDir;

use super::steps::{Peers, Recording, Side};
use crate::config::EngineKind;
use crate::lab::child::Process;
use crate::lab::peers::Place;
use crate::lab::proxy::RECORDS;
use crate::lab::subject::Subject;
use crate::lab::words::last_words;
use crate::sys::{self, calls};

/// Bytes of a request, and of its reply.
pub(super) const MESSAGE: usize = 100;
/// What the server takes for its answer: long enough for all that waits for it to fall asleep.
pub(super) const THINKS: Duration = Duration::from_millis(1);
/// Requests that come first. By then an io_uring receives with standing orders.
const WARM_UP: u32 = 24;
/// Requests of which one is shown: the fastest, which had the least of what else goes on in the machine.
pub(super) const TRIES: u32 = 9;
/// How long nothing happens before and after a request that is looked at.
const REST: Duration = Duration::from_millis(20);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection through a proxy, from a client here to a server here.
pub(super) struct Stage {
    engine: EngineKind,
    // Dropped before the proxy, which ends sooner without a connection.
    client: TcpStream,
    served: Receiver<[u64; 2]>,
    server: SocketAddr,
    proxy: Process,
    _directory: TempDir,
}

impl Stage {
    /// Starts the proxy, which must be able to run here, and connects.
    ///
    /// # Errors
    /// What keeps the proxy from serving.
    pub(super) fn set(engine: EngineKind) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tidegate-lab-").tempdir()?;
        let back_end = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let server = back_end.local_addr()?;
        let (sender, served) = channel();
        // It ends with its connection, and is not waited for.
        thread::Builder::new().name("server".to_owned()).spawn(move || serve(&back_end, &sender))?;
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let place =
            Place { listen, back_ends: vec![server], connections: 1, descriptors: sys::descriptor_limit() };
        let subject = Subject::engine(engine.name(), &std::env::current_exe()?);
        let prepared = subject.map(|it| it.prepare(directory.path(), &place, true)).transpose()?.flatten();
        let mut command = prepared.context("no engine")?.command;
        command.arg("--record");
        let cpu = sys::allowed_cpus().0.first().copied().unwrap_or(0);
        let mut proxy = Process::start(engine.name(), &command, cpu, directory.path())?;
        let client = connect(listen, &mut proxy)?;
        client.set_nodelay(true)?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { engine, client, served, server, proxy, _directory: directory })
    }

    /// The proxy's process.
    pub(super) fn pid(&self) -> u32 {
        self.proxy.pid()
    }

    /// Time for everybody to fall asleep.
    pub(super) fn rest(&self) {
        thread::sleep(REST);
    }

    /// Sends a request and takes its reply.
    pub(super) fn request(&mut self) -> anyhow::Result<Peers> {
        let client_sends = calls::now();
        self.client.write_all(&[b'x'; MESSAGE]).context("the request cannot be sent")?;
        let mut reply = [0; MESSAGE];
        self.client.read_exact(&mut reply).with_context(|| self.why("there was no reply"))?;
        let client_gets = calls::now();
        ensure!(reply == [b'y'; MESSAGE], "the reply is not the server's");
        let [server_gets, server_sends] = self.served.recv_timeout(PATIENCE).context("no server")?;
        Ok(Peers { client_sends, client_gets, server_gets, server_sends })
    }

    /// The fastest of [`TRIES`] requests, each from a proxy at rest until it is at rest again.
    pub(super) fn record(&mut self) -> anyhow::Result<Recording> {
        for _ in 0..WARM_UP {
            self.request()?;
        }
        let sockets = sockets(self.pid(), self.client.local_addr()?.port(), self.server.port())?;
        let mut tries = Vec::new();
        for _ in 0..TRIES {
            self.rest();
            tries.push(self.request()?);
        }
        let peers = *tries.iter().min_by_key(|it| it.took()).context("no request")?;
        self.rest();
        // A call is written down when it is over: this ends the ones in which the proxy waits.
        self.request()?;
        self.rest();
        self.proxy.tell(RECORDS)?;
        let records = self.proxy.hear(PATIENCE)?;
        let until = peers.client_gets + u64::try_from(REST.as_nanos() / 2)?;
        Ok(Recording { engine: self.engine, records, sockets, peers, until })
    }

    fn why(&self, what: &str) -> String {
        format!("{what}; the proxy said: {}", last_words(&self.proxy.said()))
    }
}

/// Connects as soon as the proxy listens.
fn connect(to: SocketAddr, proxy: &mut Process) -> anyhow::Result<TcpStream> {
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if let Ok(client) = TcpStream::connect_timeout(&to, PATIENCE) {
            return Ok(client);
        }
        if proxy.ended().is_some() {
            bail!("the proxy ended before it listened: {}", last_words(&proxy.said()));
        }
        thread::sleep(PAUSE);
    }
    Err(anyhow!("the proxy does not listen after {PATIENCE:?}: {}", last_words(&proxy.said())))
}

/// Answers the requests of one connection, and tells of each when it was there and when its answer left.
fn serve(listener: &TcpListener, served: &Sender<[u64; 2]>) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut request = [0; MESSAGE];
    loop {
        stream.read_exact(&mut request)?;
        let got = calls::now();
        thread::sleep(THINKS);
        let sends = calls::now();
        stream.write_all(&[b'y'; MESSAGE])?;
        if served.send([got, sends]).is_err() {
            return Ok(());
        }
    }
}

/// Which of the proxy's descriptors are its sockets towards the client and the server, told by their ports (proc(5)).
fn sockets(pid: u32, client: u16, server: u16) -> anyhow::Result<BTreeMap<i32, Side>> {
    let table = fs::read_to_string("/proc/self/net/tcp")?;
    let mut sides = BTreeMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(remote), Some(inode)) = (fields.get(2), fields.get(9)) else { continue };
        let port = remote.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
        let side = match port {
            Some(port) if port == client => Side::Client,
            Some(port) if port == server => Side::Server,
            _ => continue,
        };
        sides.insert(format!("socket:[{inode}]"), side);
    }
    let mut sockets = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let side = target.to_str().and_then(|target| sides.get(target));
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        sockets.extend(number.zip(side.copied()));
    }
    ensure!(sockets.len() == 2, "the proxy has {} sockets of this connection", sockets.len());
    Ok(sockets)
}
