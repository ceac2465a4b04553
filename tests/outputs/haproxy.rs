//! Lines that are HAProxy's: the same sessions through both programs, and the lines of both side by side.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use jiff::civil::DateTime;

use super::{end, key, lines_of, wait_until};
use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::servers::{Refusing, Server};
use crate::support::service::{Home, Place, Service, client, installed, run};

/// A line, taken apart as the manual of HAProxy has it ("TCP log format").
#[derive(Debug)]
struct Line {
    client: String,
    accepted: DateTime,
    frontend: String,
    backend: String,
    server: String,
    /// In a queue, to a connection, in all; -1 for what was not reached.
    times: [i64; 3],
    bytes: u64,
    state: String,
    /// Connections in all, at the frontend, the backend and the server.
    connections: [u32; 4],
    retries: String,
    queues: [u32; 2],
}

impl Line {
    fn parse(line: &str) -> Self {
        let parts: Vec<&str> = line.split(' ').collect();
        let [client, date, frontend, path, times, bytes, state, connections, queues] = parts[..] else {
            panic!("{} fields: {line}", parts.len())
        };
        let (client, port) = client.rsplit_once(':').expect("a port");
        port.parse::<u16>().expect("a port");
        let date = date.strip_prefix('[').and_then(|date| date.strip_suffix(']')).expect("brackets");
        assert_eq!(date.len(), "27/Nov/2026:08:18:09.528".len(), "{line}");
        let (backend, server) = path.split_once('/').expect("backend and server");
        let (connections, retries) = connections.rsplit_once('/').expect("retries");
        retries.trim_start_matches('+').parse::<u8>().expect("a number");
        Self {
            client: client.to_owned(),
            accepted: DateTime::strptime("%d/%b/%Y:%H:%M:%S.%f", date).expect("a date"),
            frontend: frontend.to_owned(),
            backend: backend.to_owned(),
            server: server.to_owned(),
            times: numbers(times),
            bytes: bytes.parse().expect("a number"),
            state: state.to_owned(),
            connections: numbers(connections),
            retries: retries.to_owned(),
            queues: numbers(queues),
        }
    }

    /// What must be the same in both programs.
    fn facts(&self) -> String {
        let Self { client, frontend, backend, server, bytes, state, connections, retries, queues, .. } = self;
        let reached = self.times.map(|time| if time < 0 { "-1" } else { "t" }).join("/");
        format!(
            "{client} {frontend} {backend}/{server} {reached} {bytes} {state} {connections:?} {retries} {queues:?}"
        )
    }
}

fn numbers<T: std::str::FromStr, const COUNT: usize>(text: &str) -> [T; COUNT] {
    let numbers: Vec<T> = text.split('/').map(|number| number.parse().ok().expect("a number")).collect();
    numbers.try_into().ok().expect("as many as the manual has")
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client that sends some bytes and FIN, and reads until the end.
fn visit(address: SocketAddr, bytes: &[u8]) {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

/// A client that waits for a server in vain: one program closes it, the other one resets it.
fn wait_in_vain(address: SocketAddr) {
    assert!(!matches!(connect(address).read(&mut [0]), Ok(1..)));
}

/// A client that has got a byte back and stays.
fn stay(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

/// The sessions, each at its end before the next begins, so that the lines come in this order.
fn play([v4, v6, lonely, again]: [SocketAddr; 4], lines: impl Fn() -> usize) {
    let logged = |count: usize| wait_until("a line of each session", || lines() >= count);
    visit(v4, &[b'x'; 100]);
    logged(1);
    visit(v6, &[b'x'; 5000]);
    logged(2);
    // Nobody listens at its one server.
    wait_in_vain(lonely);
    logged(3);
    // The first of two servers refuses.
    visit(again, b"abc");
    logged(4);
    // Two others are there when it ends, and one when the next does.
    let [first, second, third] = [v4, v4, again].map(stay);
    for (count, stream) in [(5, first), (6, second), (7, third)] {
        stream.shutdown(Shutdown::Write).unwrap();
        (&stream).read_to_end(&mut Vec::new()).unwrap();
        logged(count);
    }
}

/// The time zone of both, which is no whole hour from UTC.
const ZONE: &str = "Asia/Kathmandu";

fn haproxy(addresses: [SocketAddr; 4], servers: [SocketAddr; 2]) -> Service {
    let [v4, v6, lonely, again] = addresses;
    let [refusing, server] = servers;
    let home = Home::new();
    let file = home.write(
        "haproxy.cfg",
        &format!(
            "global\n log stdout format raw local0\n\
             defaults\n mode tcp\n log global\n option tcplog\n option redispatch 1\n retries 2\n\
             \x20timeout connect 5s\n timeout client 1h\n timeout server 1h\n\
             frontend l\n bind {v4}\n bind {v6}\n default_backend p\n\
             frontend lonely\n bind {lonely}\n default_backend gone\n\
             frontend again\n bind {again}\n default_backend two\n\
             backend p\n server s0 {server}\n\
             backend gone\n server s0 {refusing}\n\
             backend two\n server s0 {refusing}\n server s1 {server}\n"
        ),
    );
    let mut command = home.command("haproxy");
    command.env("TZ", ZONE).args(["-db", "-f"]).arg(file);
    Service::start(home, Place::Ip(again), &mut command)
}

fn tidegate(access: &std::path::Path, server: SocketAddr, refusing: SocketAddr) -> Gate {
    let pool = |name: &str, servers: &[SocketAddr]| {
        let servers: Vec<String> = (0..)
            .zip(servers)
            .map(|(number, addr)| format!("{{ name = \"s{number}\", addr = \"{addr}\" }}"))
            .collect();
        let servers = servers.join(", ");
        (format!("pool.{name}"), format!("balance = \"round_robin\"\nserver = [{servers}]"))
    };
    let [(gone, no_servers), (two, servers)] = [pool("gone", &[refusing]), pool("two", &[refusing, server])];
    let listener = |pool: &str| format!("bind = [\"127.0.0.1:0\"]\npool = \"{pool}\"");
    let config = Config::new("mio")
        .server(server)
        .listener("")
        .access_log(&key("output", access))
        .access_log("format = \"haproxy_tcplog\"")
        .table("listener.v6", "bind = [\"[::1]:0\"]\npool = \"p\"")
        .table("listener.lonely", &listener("gone"))
        .table("listener.again", &listener("two"))
        .table(&gone, &no_servers)
        .table(&two, &servers)
        .table("defaults.retry", "same_server_delay = \"100ms\"");
    Gate::start_under(&format!("export TZ={ZONE}"), &config)
}

#[test]
fn a_tcplog_line_is_that_of_haproxy_for_the_same_session() {
    if !installed(&["haproxy", "halog"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("access");
    let (server, refusing) = (Server::echo(), Refusing::new());
    let home = Home::new();
    let addresses = ["127.0.0.1", "::1", "127.0.0.1", "127.0.0.1"].map(|host| {
        let Place::Ip(address) = home.place(host) else { unreachable!("it is an IP address") };
        address
    });
    let other = haproxy(addresses, [refusing.address(), server.address()]);
    let theirs = || -> Vec<String> {
        let is_line = |line: &&str| line.contains(" [") && line.contains("] ");
        other.log().lines().filter(is_line).map(str::to_owned).collect()
    };
    play(addresses, || theirs().len());
    let gate = tidegate(&access, server.address(), refusing.address());
    let ours = || lines_of(&access);
    play(["l", "v6", "lonely", "again"].map(|name| gate.address_of(name)), || ours().len());
    end(gate);

    for (our, their) in ours().iter().zip(&theirs()) {
        println!("{our}\n{their}");
        let [our, their] = [our, their].map(|line| Line::parse(line));
        assert_eq!(our.facts().replace(" v6 ", " l "), their.facts(), "{our:#?}\n{their:#?}");
        let apart = our.accepted.duration_since(their.accepted).as_secs().abs();
        assert!(apart < 60, "{apart} s apart: {our:#?}\n{their:#?}");
        let [waited, connected, total] = our.times;
        assert!(waited.max(0) + connected.max(0) <= total, "{our:#?}");
    }
    assert_eq!([ours().len(), theirs().len()], [7, 7]);
    assert_halog_reads(folder.path(), &ours());
}

/// HAProxy's own reader of logs, which wants the head that a syslog daemon gives a line, finds the dates of all.
fn assert_halog_reads(folder: &std::path::Path, lines: &[String]) {
    let file = folder.join("syslog");
    let head = |line: &String| format!("Nov 27 08:18:09 host tidegate[1]: {line}\n");
    fs::write(&file, lines.iter().map(head).collect::<String>()).unwrap();
    let mut command = client("sh");
    let halog = "PATH=$PATH:/usr/sbin; halog -ac 1 -ad 0 < \"$0\" 2>&1; halog -time 1:4000000000 -c < \"$0\"";
    let said = run(command.args(["-c", halog]).arg(&file));
    assert!(
        said.contains(&format!("{} lines in, ", lines.len())) && said.contains(" 0 parsing errors"),
        "{said}"
    );
    assert_eq!(said.lines().last(), Some(lines.len().to_string().as_str()), "{said}");
}
