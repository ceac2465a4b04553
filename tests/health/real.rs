//! Checks of real servers: what they answer, and that their logs stay clean.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::checks::{checked, found};
use crate::control::{File, Member, Run};
use crate::fleet::wait_until;
use crate::support::PATIENCE;
use crate::support::service::{Home, Place, Service, client, installed, run, tls};
use tidegate::control::model::Health;

pub(crate) fn address(place: &Place) -> SocketAddr {
    match place {
        Place::Ip(address) => *address,
        Place::Unix(_) => panic!("it listens on an IP address"),
    }
}

/// Waits for some more checks.
fn checks(run: &Run, count: u64) {
    let passed = |status: &tidegate::control::model::Status| {
        status.pools[0].servers[0].check.as_ref().map_or(0, |check| check.results["passed"])
    };
    let before = passed(&run.status());
    run.wait_for("more checks", |status| passed(status) >= before + count);
}

pub(crate) fn redis(host: &str, more: &[&str]) -> Service {
    let home = Home::new();
    let place = home.place(host);
    let [host, port] = place.host_and_port();
    let mut command = home.command("redis-server");
    command.args(["--bind", &host, "--port", &port, "--save", "", "--appendonly", "no"]).args(more);
    Service::start(home, place, &mut command)
}

#[test]
fn redis_answers_and_tells_its_role() {
    if !installed(&["redis-server"]) {
        return;
    }
    let master = redis("127.0.0.1", &[]);
    let [host, port] = master.place().host_and_port();
    let replica = redis("127.0.0.1", &["--replicaof", &host, &port]);
    let with_password = redis("127.0.0.1", &["--requirepass", "secret"]);
    for (server, kind, health, reason) in [
        (&master, "redis", Health::Up, "PONG"),
        (&replica, "redis", Health::Up, "PONG"),
        (&with_password, "redis", Health::Up, "it asks for a password"),
        (&master, "redis-master", Health::Up, "it is a master"),
        (&replica, "redis-master", Health::Down, "it is a slave"),
        (&with_password, "redis-master", Health::Down, "only to who has a password"),
    ] {
        let (is, check) = found(address(server.place()), &format!("kind = \"{kind}\""));
        assert!(
            is == health && check.reason.contains(reason),
            "{kind} of {}: {is:?} {check:?}",
            server.place()
        );
    }
}

/// PostgreSQL with the authentication that `hba` says.
pub(crate) fn postgres(host: &str, hba: &str) -> Service {
    postgres_with(host, hba, &[])
}

fn postgres_with(host: &str, hba: &str, more: &[&str]) -> Service {
    let home = Home::new();
    let place = home.place(host);
    run(home.command("initdb").args(["-D", "data", "-U", "postgres", "--no-sync", "-A", "trust"]));
    home.write("data/pg_hba.conf", &format!("local all all trust\nhost all all 127.0.0.0/8 {hba}\n"));
    let [host, port] = place.host_and_port();
    let mut command = home.command("postgres");
    command
        .args(["-D", "data", "-h", &host, "-p", &port, "-k", home.path("").to_str().unwrap(), "-F"])
        .args(more);
    Service::start(home, place, &mut command)
}

#[test]
fn postgres_takes_sessions_and_writes_no_line_for_checks() {
    if !installed(&["postgres", "initdb", "psql"]) {
        return;
    }
    let asks = postgres("127.0.0.1", "scram-sha-256");
    let gate = checked(address(asks.place()), "kind = \"postgres\"");
    wait_until(&gate, "s0", Health::Up);
    checks(&gate, 10);
    assert_eq!(gate.server("s0").check.unwrap().reason, "it asks for a password");
    // It begins by telling of its start, which a check may fall into.
    let after = asks.log().split("ready to accept connections").nth(1).unwrap_or_default().to_owned();
    assert!(!after.contains("LOG:") && !after.contains("FATAL"), "{after}");
    drop(gate);

    let trusts = postgres("127.0.0.1", "trust");
    let gate = checked(address(trusts.place()), "kind = \"postgres\"");
    wait_until(&gate, "s0", Health::Up);
    let [host, port] = trusts.place().host_and_port();
    let role = ["-h", &host, "-p", &port, "-U", "postgres", "-c", "CREATE ROLE tidegate LOGIN"];
    run(client("psql").args(role));
    checks(&gate, 3);
    assert_eq!(gate.server("s0").check.unwrap().reason, "it takes sessions");
    let lines = trusts.log().lines().count();
    checks(&gate, 10);
    assert_eq!(trusts.log().lines().count(), lines, "{}", trusts.log());
    // A session that is let in and says good-bye leaves nothing behind.
    let count = ["-h", &host, "-p", &port, "-U", "postgres", "-Atc"];
    let left = run(client("psql")
        .args(count)
        .arg("SELECT count(*) FROM pg_stat_activity WHERE usename = 'tidegate'"));
    assert!(left.trim().parse::<u32>().unwrap() <= 1, "{left}");
}

/// A session of PostgreSQL's user `tidegate`, who is trusted; none where it is refused.
fn session_of_postgres(address: SocketAddr) -> Option<TcpStream> {
    let parameters = b"user\0tidegate\0database\0postgres\0\0";
    let length = u32::try_from(8 + parameters.len()).unwrap().to_be_bytes();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(&[&length, &196_608_u32.to_be_bytes(), &parameters[..]].concat()).ok()?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        stream.read_exact(&mut vec![0; length as usize - 4]).ok()?;
        match head[0] {
            b'Z' => return Some(stream),
            b'E' => return None,
            _ => {}
        }
    }
}

/// Where only the connections are left that are reserved for superusers, it lets a user in and refuses it then.
#[test]
fn postgres_without_room_is_down() {
    if !installed(&["postgres", "initdb", "psql"]) {
        return;
    }
    let limits =
        ["-c", "max_connections=8", "-c", "superuser_reserved_connections=4", "-c", "max_wal_senders=0"];
    let server = postgres_with("127.0.0.1", "trust", &limits);
    let [host, port] = server.place().host_and_port();
    let role = ["-h", &host, "-p", &port, "-U", "postgres", "-c", "CREATE ROLE tidegate LOGIN"];
    run(client("psql").args(role));
    let gate = checked(address(server.place()), "kind = \"postgres\"");
    wait_until(&gate, "s0", Health::Up);
    // A check has one of them for a moment.
    let mut sessions = Vec::new();
    let began = Instant::now();
    while sessions.len() < 4 {
        assert!(began.elapsed() < PATIENCE, "{} sessions: {}", sessions.len(), server.log());
        sessions.extend(session_of_postgres(address(server.place())));
    }
    wait_until(&gate, "s0", Health::Down);
    let reason = gate.server("s0").check.unwrap().reason;
    assert!(reason.contains("(53300)"), "{reason}");
    drop(sessions);
    wait_until(&gate, "s0", Health::Up);
}

/// MariaDB with the user `root`, who has no password on its socket in its home.
pub(crate) fn mariadb(host: &str) -> Service {
    let home = Home::new();
    let place = home.place(host);
    let [host, port] = place.host_and_port();
    let user = home.user();
    let data = home.path("data").display().to_string();
    run(home
        .command("mariadb-install-db")
        .args([&format!("--datadir={data}"), "--auth-root-authentication-method=normal"])
        .args([&format!("--user={user}"), "--skip-test-db", "--skip-name-resolve"]));
    let mut command = home.command("mariadbd");
    command.args(["--no-defaults", &format!("--datadir={data}"), &format!("--bind-address={host}")]);
    command.args([&format!("--port={port}"), &format!("--socket={}", home.path("socket").display())]);
    // Three clients that break off their handshake, and their host is locked out.
    command.args(["--max-connect-errors=3", "--innodb-flush-method=fsync", "--skip-log-bin"]);
    Service::start(home, place, &mut command)
}

#[test]
fn mariadb_takes_sessions_and_locks_nobody_out() {
    if !installed(&["mariadbd", "mariadb-install-db", "mariadb"]) {
        return;
    }
    let server = mariadb("127.0.0.1");
    let gate = checked(address(server.place()), "kind = \"mysql\"");
    wait_until(&gate, "s0", Health::Up);
    checks(&gate, 10);
    let reason = gate.server("s0").check.unwrap().reason;
    assert!(reason.contains("MariaDB") && reason.contains("(1045)"), "{reason}");
    let socket = format!("--socket={}", server.home().path("socket").display());
    let ask = |statement: &str| {
        let mut command: Command = client("mariadb");
        run(command.args(["--no-defaults", &socket, "-uroot", "-N", "-e", statement]))
    };
    ask("CREATE USER 'tidegate'@'%'");
    checks(&gate, 10);
    let reason = gate.server("s0").check.unwrap().reason;
    assert!(reason.contains("MariaDB") && !reason.contains("(1045)"), "{reason}");
    thread::sleep(Duration::from_millis(100));
    let aborted = ask("SHOW GLOBAL STATUS LIKE 'Aborted_clients'");
    assert_eq!(aborted.split_whitespace().last(), Some("0"), "who says good-bye is not aborted: {aborted}");
}

/// The handshake with a server that has a certificate nobody knows.
#[test]
fn tls_shakes_hands_and_asks_for_the_name() {
    if !installed(&["openssl"]) {
        return;
    }
    let server = tls(1);
    let (health, check) = found(address(server.place()), "kind = \"tls\"\nsni = \"db.example.com\"");
    assert_eq!((health, check.reason.as_str()), (Health::Up, "TLS 1.3"));
    let (health, check) = found(address(server.place()), "kind = \"tls\"\nsni = \"other.example.com\"");
    assert!(health == Health::Down && check.reason.starts_with("TLS: "), "{check:?}");
    let (health, _) = found(address(server.place()), "kind = \"tls\"");
    assert_eq!(health, Health::Up);
}

/// When certificates end is shown; there is one warning of each that ends soon or has ended, and nobody is down for it.
#[test]
fn the_end_of_a_certificate_is_told() {
    if !installed(&["openssl"]) {
        return;
    }
    let (later, soon, ended) = (tls(100), tls(5), tls(0));
    let members = [("later", &later), ("soon", &soon), ("ended", &ended)];
    let members = members.map(|(name, server)| Member::new(name, address(server.place())));
    let check = "kind = \"tls\"\ninterval = \"200ms\"\nfall = 2";
    let run = Run::start(&File::serving("mio", &members).set("pool.p.check", check));
    let of = |name: &str| run.server(name).check.unwrap().certificate.unwrap();
    run.wait_for("checks that pass", |status| {
        let mut checks = status.pools[0].servers.iter().filter_map(|server| server.check.as_ref());
        checks.all(|check| check.certificate.is_some())
    });
    // The last one ends in the second in which it was made.
    run.wait_for("the end", |_| of("ended").days_left == -1);
    assert_eq!((of("later").days_left, of("soon").days_left), (99, 4));
    assert!(["later", "soon", "ended"].iter().all(|name| run.server(name).health == Health::Up));

    let ends = of("soon").ends_at;
    let end = jiff::Timestamp::from_second(ends.try_into().unwrap()).unwrap();
    let warning = format!("level=warn msg=\"the certificate of server p/soon ends in 4 days, at {end}");
    assert!(run.gate.logs(|line| line.contains(&warning)));
    assert!(run.gate.logs(|line| line.contains("level=warn msg=\"the certificate of server p/ended ")));
    let table = run.ctl(&["status"]).well();
    assert!(table.contains(&format!("TLS 1.3; the certificate ends in 4 days, at {end}")), "{table}");
    let series = "tidegate_upstream_certificate_expiry_timestamp_seconds{pool=\"p\",server=\"soon\"}";
    let (_, metrics) = run.get("/metrics");
    assert!(metrics.contains(&format!("{series} {ends}\n")), "{metrics}");

    // Further checks say nothing new, and while a server is gone its certificate is still known.
    drop(soon);
    wait_until(&run, "soon", Health::Down);
    assert_eq!(of("soon").ends_at, ends);
    checks(&run, 5);
    let lines = run.gate.log_lines();
    assert_eq!(lines.iter().filter(|line| line.contains("certificate")).count(), 2, "{lines:#?}");
}
