//! Headers of the PROXY protocol with other people's programs: theirs are read, ours are taken, and a check of a server
//! that demands one is no error to it. A test whose programs are not installed says so.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use support::PATIENCE;
use support::gate::{Config, Gate};
use support::servers::{Server, listen};
use support::service::{Home, Place, Running, Service, client, installed};
use tidegate::config::{Address, CheckClose, Kind, Probe, Tcp};
use tidegate::control::check::{Report, Target, Verdict};
use tidegate::proxy_header::{Addresses, Encoded, Header, Told, Version, Versions, decode, encode};

fn address(place: &Place) -> SocketAddr {
    match place {
        Place::Ip(address) => *address,
        Place::Unix(_) => panic!("it listens on an IP address"),
    }
}

/// HAProxy with these sections behind its defaults.
fn haproxy(home: Home, place: Place, sections: &str) -> Service {
    let defaults = "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n";
    let file = home.write("haproxy.cfg", &format!("{defaults}{sections}"));
    let mut command = home.command("haproxy");
    command.args(["-db", "-f"]).arg(file);
    Service::start(home, place, &mut command)
}

/// nginx with these blocks; Debian has its streams in a module of their own.
fn nginx(home: Home, place: Place, blocks: &str) -> Service {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if Path::new(module).exists() { format!("load_module {module};") } else { String::new() };
    let text = format!("{load} daemon off; pid nginx.pid; error_log stderr info; events {{}}\n{blocks}");
    let file = home.write("nginx.conf", &text);
    let mut command = home.command("nginx");
    command.args(["-e", "stderr", "-p"]).arg(home.path("")).arg("-c").arg(file);
    Service::start(home, place, &mut command)
}

fn proxied(source: &str, destination: &str) -> Told<'static> {
    Told {
        addresses: Addresses::between(source.parse().unwrap(), destination.parse().unwrap()),
        ..Told::LOCAL
    }
}

/// Headers as we write them, and the ends that they tell.
fn ours() -> Vec<(Encoded, Option<[SocketAddr; 2]>)> {
    let v4 = proxied("192.0.2.7:4660", "198.51.100.9:443");
    let v6 = proxied("[2001:db8::7]:65535", "[2001:db8::9]:1");
    let rich =
        Told { authority: Some(b"db.example.com"), alpn: Some(b"h2"), unique_id: Some(b"0123-4"), ..v4 };
    [
        (Version::V1, v4),
        (Version::V1, v6),
        (Version::V1, Told::LOCAL),
        (Version::V2, v4),
        (Version::V2, v6),
        (Version::V2, Told { crc32c: true, ..v6 }),
        (Version::V2, Told { crc32c: true, ..rich }),
        (Version::V2, Told::LOCAL),
    ]
    .map(|(version, told)| (encode(version, told), told.addresses.ends()))
    .into()
}

const QUESTION: &[u8] = b"what is behind the header";

/// Reads a header and the question from a connection that is accepted, and shows the header to `look`.
fn receive(listener: &TcpListener, look: impl FnOnce(&Header<'_>)) {
    let (mut stream, _) = listener.accept().expect("it is connected to");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let mut some = [0; 512];
    loop {
        let count = stream.read(&mut some).expect("it goes on");
        assert!(count > 0, "it ended behind {:?}", bytes.escape_ascii().to_string());
        bytes.extend_from_slice(&some[..count]);
        let header = decode(&bytes, Versions::ALL);
        let header = header.unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()));
        if let Some(header) = header
            && bytes.len() >= header.len + QUESTION.len()
        {
            assert_eq!(&bytes[header.len..], QUESTION);
            return look(&header);
        }
    }
}

/// Sends each of our headers to `front`, behind which `listener` gets theirs.
fn chain(front: SocketAddr, listener: &TcpListener, mut look: impl FnMut(&Header<'_>)) {
    for (header, ends) in ours() {
        let mut stream = TcpStream::connect(front).unwrap();
        // One that has no address to tell leaves the connection with its own.
        let ends = ends.unwrap_or_else(|| [stream.local_addr().unwrap(), front]);
        stream.write_all(&[header.as_bytes(), QUESTION].concat()).unwrap();
        receive(listener, |theirs| {
            println!("{header:?} became {theirs:?}");
            assert_eq!(theirs.addresses.ends(), Some(ends), "{header:?}");
            look(theirs);
        });
    }
}

#[test]
fn haproxy_takes_our_headers_and_we_take_its_own() {
    if !installed(&["haproxy"]) {
        return;
    }
    let (behind, home) = (listen("127.0.0.1").unwrap(), Home::new());
    let server = behind.local_addr().unwrap();
    let [one, two, three] = [(); 3].map(|()| home.place("127.0.0.1"));
    let front = |name: &str, place: &Place, send: &str| {
        format!(
            "listen {name}\n bind {place} accept-proxy\n unique-id-format %[uuid()]\n server s {server} {send}\n"
        )
    };
    let sections = [
        front("one", &one, "send-proxy"),
        front("two", &two, "send-proxy-v2"),
        front("three", &three, "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
    ];
    let _haproxy = haproxy(home, three.clone(), &sections.concat());
    chain(address(&one), &behind, |theirs| assert_eq!(theirs.version, Version::V1));
    chain(address(&two), &behind, |theirs| assert_eq!(theirs.version, Version::V2));
    chain(address(&three), &behind, |theirs| {
        assert_eq!(theirs.tlvs.get(3).map(<[u8]>::len), Some(4), "the checksum that was held against ours");
        assert_eq!(theirs.tlvs.unique_id().map(<[u8]>::len), Some(36));
    });
}

#[test]
fn nginx_takes_our_headers_and_we_take_its_own() {
    if !installed(&["nginx"]) {
        return;
    }
    let (behind, home) = (listen("127.0.0.1").unwrap(), Home::new());
    let server = behind.local_addr().unwrap();
    let [v4, v6] = ["127.0.0.1", "::1"].map(|host| home.place(host));
    // It tells the address that it was told only to whom it is to believe.
    let blocks = format!(
        "stream {{ server {{ listen {v4} proxy_protocol; listen {v6} proxy_protocol;
            set_real_ip_from 127.0.0.0/8; set_real_ip_from ::1;
            proxy_pass {server}; proxy_protocol on; }} }}"
    );
    let _nginx = nginx(home, v6.clone(), &blocks);
    for (header, ends) in ours() {
        // Its own address is the destination that it tells: between two families it would write a line that is none.
        let front = if ends.is_some_and(|[source, _]| source.is_ipv6()) { &v6 } else { &v4 };
        let mut stream = TcpStream::connect(address(front)).unwrap();
        let source = ends.map_or_else(|| stream.local_addr().unwrap(), |[source, _]| source);
        stream.write_all(&[header.as_bytes(), QUESTION].concat()).unwrap();
        receive(&behind, |theirs| {
            let told = theirs.addresses.ends();
            assert_eq!(told.map(|[source, _]| source), Some(source), "{header:?} became {theirs:?}");
        });
    }
}

/// Us with headers to servers, and us behind, who read headers and tell the server. `between` starts somebody else at that
/// address, whose server is the other one.
fn between_us(version: Version, between: impl FnOnce(Home, Place, SocketAddr) -> Service) {
    let (behind, home) = (listen("127.0.0.1").unwrap(), Home::new());
    let place = home.place("127.0.0.1");
    let send = format!("send_proxy = \"v{}\"", version.number());
    let last = Config::new("mio")
        .listener("accept_proxy = { from = [\"127.0.0.1\"] }")
        .pool(&send)
        .server(behind.local_addr().unwrap());
    let last = Gate::start(&last);
    let _between = between(home, place.clone(), last.address());
    let first = Gate::start(&Config::new("mio").pool(&send).server(&place));
    for question in [QUESTION, b""] {
        let mut client = TcpStream::connect(first.address()).unwrap();
        let ends = [client.local_addr().unwrap(), first.address()];
        client.write_all(question).unwrap();
        let (mut server, _) = behind.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let told = encode(version, Told { addresses: Addresses::between(ends[0], ends[1]), ..Told::LOCAL });
        let mut seen = vec![0; told.as_bytes().len() + question.len()];
        server.read_exact(&mut seen).unwrap();
        assert_eq!(seen, [told.as_bytes(), question].concat(), "{}", seen.escape_ascii());
        server.write_all(b"answer").unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer");
        drop(client);
        let access = last.access(ends[0]);
        assert_eq!((access.bytes_in, access.bytes_out), (question.len() as u64, 6));
    }
}

#[test]
fn a_chain_through_haproxy_keeps_the_clients_address() {
    if !installed(&["haproxy"]) {
        return;
    }
    for (version, send) in [(Version::V1, "send-proxy"), (Version::V2, "send-proxy-v2")] {
        between_us(version, |home, place, next| {
            let section = format!("listen l\n bind {place} accept-proxy\n server s {next} {send}\n");
            haproxy(home, place, &section)
        });
    }
}

#[test]
fn a_chain_through_nginx_keeps_the_clients_address() {
    if !installed(&["nginx"]) {
        return;
    }
    let (behind, home) = (listen("127.0.0.1").unwrap(), Home::new());
    let place = home.place("127.0.0.1");
    let accept = "accept_proxy = { from = [\"127.0.0.1\"], versions = [1] }";
    let last = Gate::start(&Config::new("mio").listener(accept).server(behind.local_addr().unwrap()));
    let blocks = format!(
        "stream {{ server {{ listen {place} proxy_protocol; set_real_ip_from 127.0.0.0/8;
            proxy_pass {}; proxy_protocol on; }} }}",
        last.address()
    );
    let nginx = nginx(home, place.clone(), &blocks);
    let first = Gate::start(&Config::new("mio").pool("send_proxy = \"v2\"").server(&place));
    let mut client = TcpStream::connect(first.address()).unwrap();
    client.write_all(QUESTION).unwrap();
    let (mut server, _) = behind.accept().unwrap();
    let mut seen = vec![0; QUESTION.len()];
    server.read_exact(&mut seen).unwrap();
    assert_eq!(seen, QUESTION);
    drop(server);
    let address = client.local_addr().unwrap();
    drop(client);
    assert_eq!(last.access(address).bytes_in, QUESTION.len() as u64);
    drop(nginx);
}

/// By hand, as load balancers of AWS send it, and by HAProxy.
#[test]
fn tlvs_of_a_header_are_in_the_access_line() {
    let server = Server::echo();
    let gate = Config::new("mio").listener("accept_proxy = { from = [\"127.0.0.1\"] }");
    let gate = Gate::start(&gate.server(server.address()));
    let ask = |to: SocketAddr, header: &[u8]| {
        let mut client = TcpStream::connect(to).unwrap();
        client.write_all(&[header, QUESTION].concat()).unwrap();
        client.read_exact(&mut [0; QUESTION.len()]).unwrap();
        client.local_addr().unwrap()
    };
    let tlvs =
        [b"\x02\0\x06a.test\x05\0\x02\xff\n\x03\0\x04\0\0\0\0".as_slice(), b"\xea\0\x08\x01vpce-0a"].concat();
    let mut header =
        [encode(Version::V2, proxied("192.0.2.7:4660", "198.51.100.9:443")).as_bytes(), &tlvs].concat();
    header[15] = u8::try_from(header.len() - 16).unwrap();
    let checksum = header.len() - 11 - 4;
    let value = crc32c::crc32c(&header).to_be_bytes();
    header[checksum..checksum + 4].copy_from_slice(&value);
    ask(gate.address(), &header);
    let access = gate.access("192.0.2.7:4660");
    let told = [&access.authority, &access.unique_id, &access.vpce_id].map(Option::as_deref);
    assert_eq!(told, [Some("a.test"), Some("%FF%0A"), Some("vpce-0a")], "{access:?}");

    if !installed(&["haproxy"]) {
        return;
    }
    let home = Home::new();
    let place = home.place("127.0.0.1");
    let section = format!(
        "listen l\n bind {place}\n unique-id-format %[uuid()]\n server s {} send-proxy-v2 proxy-v2-options unique-id\n",
        gate.address()
    );
    let _haproxy = haproxy(home, place.clone(), &section);
    let client = ask(address(&place), b"");
    let access = gate.access(client);
    assert_eq!(access.unique_id.as_ref().map(String::len), Some(36), "{access:?}");
    assert_eq!((access.authority, access.vpce_id), (None, None));
}

/// Who only looks whether we listen, and HAProxy's own check that says LOCAL, leave no error behind.
#[test]
fn checks_of_haproxy_are_no_bad_headers() {
    if !installed(&["haproxy"]) {
        return;
    }
    let (server, home) = (Server::echo(), Home::new());
    let gate = Config::new("mio").listener("accept_proxy = { from = [\"127.0.0.1\"] }");
    let gate = Gate::start(&gate.server(server.address()));
    let place = home.place("127.0.0.1");
    let section = format!(
        "listen l\n bind {place}\n server a {0} check inter 50ms\n \
         server b {0} send-proxy-v2 check check-send-proxy inter 50ms\n",
        gate.address()
    );
    let _haproxy = haproxy(home, place, &section);
    let mut accesses = gate.first_accesses(8);
    accesses.retain(|access| access.server.is_none());
    assert!(accesses.iter().all(|access| access.cause == "client_left"), "{accesses:?}");
    assert!(!gate.log_lines().iter().any(|line| line.contains("bad PROXY header")));
    drop(server);
}

/// With `skip_empty`, which is the default, they are counted, and have no line; who has a client has one.
#[test]
fn checks_of_haproxy_are_counted_and_not_logged() {
    if !installed(&["haproxy"]) {
        return;
    }
    let (server, home, ours) = (Server::echo(), Home::new(), Home::new());
    let Place::Ip(http) = ours.place("127.0.0.1") else { panic!("it is an address") };
    let config = Config::new("mio").listener("accept_proxy = { from = [\"127.0.0.1\"] }");
    let config =
        config.server(server.address()).table("admin", &format!("socket = \"off\"\nhttp = \"{http}\""));
    let gate = Gate::start(&config.to_string().replace("skip_empty = false", "skip_empty = true"));
    let place = home.place("127.0.0.1");
    let front = address(&place);
    let checks = "check check-send-proxy inter 50ms";
    let section = format!(
        "listen l\n bind {place}\n server a {0} send-proxy {checks}\n server b {0} send-proxy-v2 {checks}\n",
        gate.address()
    );
    let haproxy = haproxy(home, place, &section);
    let probes = || {
        let (_, page) = support::http::get(http, "/metrics").expect("it answers");
        let count = page
            .lines()
            .find_map(|line| line.strip_prefix("tidegate_listener_probes_total{listener=\"l\"} "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    };
    let began = std::time::Instant::now();
    while probes() < 20 {
        assert!(began.elapsed() < PATIENCE, "{} probes: {:?}", probes(), gate.accesses());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut client = TcpStream::connect(front).unwrap();
    let own = client.local_addr().unwrap();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    drop(client);
    assert_eq!(gate.access(own).bytes_in, 5);
    drop(haproxy);
    let lines = gate.accesses();
    assert!(lines.iter().all(|line| line.client == own.to_string()), "{lines:?}");
}

#[test]
fn curls_header_tells_who_asks_through_us() {
    if !installed(&["curl"]) {
        return;
    }
    let listener = listen("127.0.0.1").unwrap();
    let config = Config::new("mio").listener("accept_proxy = { from = [\"127.0.0.1\"], versions = [1] }");
    let gate = Gate::start(&config.server(listener.local_addr().unwrap()));
    let url = format!("http://{}/", gate.address());
    let curl = Running::start(client("curl").args(["-s", "--haproxy-protocol", &url]));
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    let mut some = [0; 512];
    while !bytes.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut some).unwrap();
        bytes.extend_from_slice(&some[..count]);
    }
    assert!(bytes.starts_with(b"GET / HTTP/1.1\r\n"), "the header is not passed on");
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi").unwrap();
    assert_eq!(curl.finish(PATIENCE), "hi");
}

#[test]
fn we_take_the_header_of_curl() {
    if !installed(&["curl"]) {
        return;
    }
    let listener = listen("127.0.0.1").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let curl = Running::start(client("curl").args(["-s", "--haproxy-protocol", &url]));
    let (mut stream, peer) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    let mut some = [0; 512];
    while !bytes.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut some).unwrap();
        bytes.extend_from_slice(&some[..count]);
    }
    let header = decode(&bytes, Versions::ALL).unwrap().expect("it came before the request");
    assert_eq!(header.addresses.ends(), Some([peer, listener.local_addr().unwrap()]));
    assert!(bytes[header.len..].starts_with(b"GET / HTTP/1.1\r\n"));
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
    assert_eq!(curl.finish(PATIENCE), "hi");
}

/// Asks once.
fn check(addr: SocketAddr, kind: Kind, send_proxy: Option<Version>) -> Report {
    let probe = Probe { kind, timeout: Duration::from_secs(5), close: CheckClose::Fin, ..Probe::default() };
    let target = Target { addr: Address::Ip(addr), probe, tcp: Tcp::default(), source: None, send_proxy };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (report, farewell) = target.check().await;
        farewell.say().await;
        report
    })
}

fn http() -> Kind {
    Kind::Http { path: "/".to_owned(), status: vec![200..=200] }
}

/// With a header it passes, and without one it does not: the server insists.
fn a_check_needs_its_header(addr: SocketAddr) {
    for (send_proxy, verdict) in
        [(Some(Version::V1), Verdict::Passed), (Some(Version::V2), Verdict::Passed), (None, Verdict::Failed)]
    {
        let report = check(addr, http(), send_proxy);
        assert_eq!(report.verdict, verdict, "{send_proxy:?}: {report:?}");
    }
}

#[test]
fn a_check_of_haproxy_that_demands_a_header_passes() {
    if !installed(&["haproxy"]) {
        return;
    }
    let home = Home::new();
    let place = home.place("127.0.0.1");
    let section =
        format!("frontend f\n mode http\n bind {place} accept-proxy\n http-request return status 200\n");
    let _haproxy = haproxy(home, place.clone(), &section);
    a_check_needs_its_header(address(&place));
}

#[test]
fn a_check_of_nginx_that_demands_a_header_passes() {
    if !installed(&["nginx"]) {
        return;
    }
    let home = Home::new();
    let place = home.place("127.0.0.1");
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {name}; "));
    let blocks = format!(
        "http {{ access_log log-of-requests; {} server {{ listen {place} proxy_protocol; return 200; }} }}",
        temporary.concat()
    );
    let nginx = nginx(home, place.clone(), &blocks);
    a_check_needs_its_header(address(&place));
    let log = nginx.log();
    let broken = log.lines().filter(|line| line.contains("broken header")).count();
    assert_eq!(broken, 1, "only the check without a header was one: {log}");
}

/// What a check says first, and nothing else where nothing is asked.
#[test]
fn a_check_says_that_it_is_the_proxys_own() {
    for (version, expected) in [
        (Some(Version::V1), b"PROXY UNKNOWN\r\n".as_slice()),
        (Some(Version::V2), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
        (None, b""),
    ] {
        let listener = listen("127.0.0.1").unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = std::thread::spawn(move || check(addr, Kind::Tcp, version));
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => drop(stream),
        }
        assert_eq!(bytes, expected);
        assert_eq!(asked.join().unwrap().verdict, Verdict::Passed);
    }
}
