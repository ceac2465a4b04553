//! Hellos of other people's TLS clients: they are read as they arrive, and the alert that refuses a name is understood.
//! A test whose programs are not installed says so.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use support::PATIENCE;
use support::service::{Running, client, installed};
use tidegate::client_hello::postgres::{REQUEST_LEN, Requests, Step};
use tidegate::client_hello::{First, Reader, UNRECOGNIZED_NAME};

const MAX: usize = 16 << 10;

/// What a client's first bytes told.
struct Seen {
    name: Option<String>,
    protocols: Vec<String>,
    /// In how many records the hello came.
    records: usize,
    /// Bytes of the hello, with the headers of its records.
    len: usize,
}

/// Reads a hello byte by byte, refuses its name, and says what it told and what the client had to say of that.
fn refuse(name: &str, arguments: impl FnOnce(SocketAddr, &mut Command)) -> (Seen, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = client(name);
    arguments(listener.local_addr().unwrap(), &mut command);
    let running = Running::start(&mut command);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let seen = hello(&mut stream);
    stream.write_all(&UNRECOGNIZED_NAME).unwrap();
    drop(stream);
    (seen, running.fail(PATIENCE))
}

fn next_byte(stream: &mut TcpStream, bytes: &mut Vec<u8>) {
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("there is more to come");
    bytes.push(byte[0]);
}

fn hello(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    let mut requests = Requests::default();
    loop {
        match requests.look(&bytes).expect("the client waits for its answer") {
            Step::More => next_byte(stream, &mut bytes),
            Step::NoRequest => break,
            Step::AnswerYes => {
                assert_eq!(bytes.len(), REQUEST_LEN);
                bytes.clear();
                stream.write_all(b"S").unwrap();
                break;
            }
            Step::AnswerNo => panic!("nobody asked for Kerberos"),
        }
    }
    let mut reader = Reader::default();
    loop {
        match reader.look(&bytes, MAX).expect("real clients are right") {
            First::More => {}
            First::NotTls => panic!("{} is no hello", bytes.escape_ascii()),
            First::Hello(hello) => {
                let protocols = hello.alpn.map(|it| String::from_utf8(it.copy_to(&mut [0; 255]).to_vec()));
                return Seen {
                    name: hello.server_name.map(|name| name.to_string()),
                    protocols: protocols.map(Result::unwrap).collect(),
                    records: records(&bytes),
                    len: bytes.len(),
                };
            }
        }
        next_byte(stream, &mut bytes);
    }
}

fn records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [_, _, _, high, low, rest @ ..] = bytes {
        bytes = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
        count += 1;
    }
    count
}

fn openssl(arguments: &[&str]) -> Seen {
    let (seen, said) = refuse("openssl", |address, command| {
        command.args(["s_client", "-connect", &address.to_string()]).args(arguments);
    });
    assert!(said.contains("unrecognized name"), "{said}");
    seen
}

#[test]
fn openssl_tells_names_and_protocols() {
    if !installed(&["openssl"]) {
        return;
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let seen = openssl(&[version, "-servername", "Db.Example.com", "-alpn", "postgresql,h2"]);
        assert_eq!(seen.name.as_deref(), Some("db.example.com"));
        assert_eq!((seen.protocols, seen.records), (vec!["postgresql".to_owned(), "h2".to_owned()], 1));
        let seen = openssl(&[version, "-noservername"]);
        assert_eq!((seen.name, seen.protocols), (None, vec![]));
    }
}

#[test]
fn openssl_cuts_a_large_hello_into_records() {
    if !installed(&["openssl"]) {
        return;
    }
    let protocols: Vec<String> = (0..40).map(|number| format!("{number:0>200}")).collect();
    let seen = openssl(&["-servername", "a.example", "-alpn", &protocols.join(","), "-max_send_frag", "512"]);
    assert_eq!((seen.name.as_deref(), seen.protocols), (Some("a.example"), protocols));
    println!("{} bytes in {} records", seen.len, seen.records);
    assert!(seen.records >= 10 && seen.len > 8000, "{} bytes in {} records", seen.len, seen.records);
}

#[test]
fn curl_tells_the_host_of_its_url() {
    if !installed(&["curl"]) {
        return;
    }
    let (seen, said) = refuse("curl", |address, command| {
        let to = format!("web.example.com:443:{address}");
        command.args(["--silent", "--show-error", "--connect-to", &to, "https://web.example.com/"]);
    });
    assert_eq!(seen.name.as_deref(), Some("web.example.com"));
    assert!(seen.protocols.contains(&"http/1.1".to_owned()), "{:?}", seen.protocols);
    assert!(said.contains("unrecognized name"), "{said}");
}

#[test]
fn psql_asks_for_tls_first() {
    if !installed(&["psql"]) {
        return;
    }
    let (seen, said) = refuse("psql", |address, command| {
        let (ip, port) = (address.ip(), address.port());
        command.arg(format!("host=pg.example.com hostaddr={ip} port={port} user=u sslmode=require"));
    });
    assert_eq!(seen.name.as_deref(), Some("pg.example.com"));
    assert!(said.contains("unrecognized name"), "{said}");
}
