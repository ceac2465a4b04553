//! The configurations of `docs/recipes.md`, with the real servers and clients that they are for.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::control::{File, Run, place};
use crate::real::{address, mariadb, postgres, redis};
use crate::support::PATIENCE;
use crate::support::peer::{End, Peer};
use crate::support::service::{Home, Place, Running, Service, client, installed, run};
use tidegate::control::model::Health;

/// The configuration under that heading, with these servers in place of the page's, in their order, and a listener on
/// any port of loopback.
fn recipe(heading: &str, servers: &[&Service]) -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect("the page has that heading");
    let (_, block) = section.split_once("```toml\n").expect("a configuration follows");
    let (text, _) = block.split_once("```").unwrap();
    let mut servers = servers.iter();
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("bind", _)) => "bind = [\"127.0.0.1:0\"]".to_owned(),
        Some(("addr", _)) => format!("addr = \"{}\"", servers.next().expect("one more server").place()),
        _ => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    assert!(servers.next().is_none(), "the page has fewer servers");
    text
}

fn serve(heading: &str, servers: &[&Service]) -> Run {
    let file = File::new("mio");
    let recipe = recipe(heading, servers);
    let tables = file.to_string().replace("config_version = 1\n", "");
    Run::start_text(&file, &format!("{recipe}\n{tables}"))
}

fn wait_until(run: &Run, server: &str, health: Health) {
    run.wait_for(&format!("{server} {}", health.name()), |status| {
        let mut servers = status.pools.iter().flat_map(|pool| &pool.servers);
        servers.any(|one| one.name == server && one.health == health)
    });
}

/// A host of loopback for one server alone.
fn host() -> String {
    place().ip().to_string()
}

/// The session of a client that says nothing, with whatever server is there.
fn silent(run: &Run) -> Peer {
    let stream = TcpStream::connect_timeout(&run.gate.address(), PATIENCE).expect("it listens");
    let client = Peer::client(stream);
    let own = client.address();
    run.wait_for("the session", |_| run.connections().iter().any(|one| one.client == Some(own)));
    client
}

/// What Patroni of each member answers: only the `leader`'s says that it is one.
fn patroni(host: &str, number: usize, leader: &Arc<AtomicUsize>) {
    let listener = TcpListener::bind((host, 8008)).expect("the address is free");
    let leader = Arc::clone(leader);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut request = String::new();
            let _ = BufReader::new(&stream).read_line(&mut request);
            let is_leader = leader.load(Ordering::Relaxed) == number;
            let status = match request.as_str() {
                "GET /primary HTTP/1.1\r\n" if is_leader => "200 OK",
                "GET /primary HTTP/1.1\r\n" => "503 Service Unavailable",
                _ => "404 Not Found",
            };
            let _ = (&stream).write_all(
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
            );
        }
    });
}

#[test]
fn postgres_with_patroni_follows_the_leader() {
    if !installed(&["postgres", "initdb", "psql"]) {
        return;
    }
    let servers = [(); 2].map(|()| postgres(&host(), "trust"));
    let leader = Arc::new(AtomicUsize::new(0));
    for (number, server) in servers.iter().enumerate() {
        patroni(&server.place().host_and_port()[0], number, &leader);
    }
    let run = serve("PostgreSQL with Patroni", &servers.each_ref());
    let [host, port] = Place::Ip(run.gate.address()).host_and_port();
    let ask = |statement: &str| run_psql(&host, &port, statement).trim().to_owned();
    wait_until(&run, "pg1", Health::Up);
    wait_until(&run, "pg2", Health::Down);
    let ports = servers.each_ref().map(|server| server.place().host_and_port()[1].clone());
    for _ in 0..4 {
        assert_eq!(ask("SHOW port"), ports[0]);
    }
    assert_eq!(ask("SELECT sum(n) FROM generate_series(1, 100000) n"), "5000050000");

    let mut session = silent(&run);
    leader.store(1, Ordering::Relaxed);
    wait_until(&run, "pg1", Health::Down);
    wait_until(&run, "pg2", Health::Up);
    assert_eq!(session.receive_to_end(), End::Reset);
    assert_eq!(run.cause(session.address()), "server_down");
    for _ in 0..4 {
        assert_eq!(ask("SHOW port"), ports[1]);
    }
}

fn run_psql(host: &str, port: &str, statement: &str) -> String {
    run(client("psql").args(["-h", host, "-p", port, "-U", "postgres", "-Atc", statement]))
}

#[test]
fn redis_follows_the_primary() {
    if !installed(&["redis-server", "redis-cli"]) {
        return;
    }
    let first = redis(&host(), &[]);
    let [first_host, first_port] = first.place().host_and_port();
    let second = redis(&host(), &["--replicaof", &first_host, &first_port]);
    let run_on = |at: SocketAddr, words: &[&str]| {
        let [host, port] = Place::Ip(at).host_and_port();
        run(client("redis-cli").args(["-h", &host, "-p", &port]).args(words)).trim().to_owned()
    };
    let gate = serve("Redis with a primary and replicas", &[&first, &second]);
    wait_until(&gate, "r1", Health::Up);
    wait_until(&gate, "r2", Health::Down);
    for number in 0..4 {
        assert_eq!(run_on(gate.gate.address(), &["SET", &format!("key{number}"), "before"]), "OK");
    }
    // The replica has them, too, before it takes over.
    let began = Instant::now();
    while run_on(address(second.place()), &["GET", "key3"]) != "before" {
        assert!(began.elapsed() < PATIENCE, "nothing is replicated");
    }

    let mut session = silent(&gate);
    assert_eq!(run_on(address(second.place()), &["REPLICAOF", "NO", "ONE"]), "OK");
    let [second_host, second_port] = second.place().host_and_port();
    assert_eq!(run_on(address(first.place()), &["REPLICAOF", &second_host, &second_port]), "OK");
    wait_until(&gate, "r1", Health::Down);
    wait_until(&gate, "r2", Health::Up);
    assert_eq!(session.receive_to_end(), End::Reset);
    assert_eq!(gate.cause(session.address()), "server_down");
    for number in 0..4 {
        assert_eq!(run_on(gate.gate.address(), &["SET", &format!("key{number}"), "after"]), "OK");
    }
    assert_eq!(run_on(address(second.place()), &["GET", "key3"]), "after");
}

#[test]
fn mariadb_serves_from_every_member() {
    if !installed(&["mariadbd", "mariadb-install-db", "mariadb"]) {
        return;
    }
    let servers = [(); 2].map(|()| mariadb(&host()));
    for server in &servers {
        let socket = format!("--socket={}", server.home().path("socket").display());
        run(client("mariadb").args(["--no-defaults", &socket, "-uroot", "-e"]).arg(
            "CREATE USER app; GRANT ALL ON *.* TO app; CREATE DATABASE shop; CREATE TABLE shop.t (n INT)",
        ));
    }
    let gate = serve("MySQL and MariaDB", &servers.each_ref());
    for server in ["db1", "db2"] {
        wait_until(&gate, server, Health::Up);
    }
    let [host, port] = Place::Ip(gate.gate.address()).host_and_port();
    let at = ["--no-defaults", "--protocol=tcp", "-h", &host, "-P", &port, "-uapp", "-N"];
    let mut ports = Vec::new();
    // One session is held while the other is made, so that each goes where fewer are.
    let held = Running::start(client("mariadb").args(at).args(["-e", "SELECT @@port; SELECT SLEEP(2)"]));
    let began = Instant::now();
    while held.output().is_empty() && gate.connections().is_empty() {
        assert!(began.elapsed() < PATIENCE);
    }
    ports.push(run(client("mariadb").args(at).args(["-e", "SELECT @@port"])).trim().to_owned());
    let first = held.finish(PATIENCE);
    ports.push(first.lines().next().expect("it answered").to_owned());
    ports.sort();
    let mut expected = servers.each_ref().map(|server| server.place().host_and_port()[1].clone());
    expected.sort();
    assert_eq!(ports, expected);
    let sum = "INSERT INTO shop.t SELECT seq FROM shop.seq_1_to_10000; SELECT SUM(n), COUNT(*) FROM shop.t";
    assert_eq!(run(client("mariadb").args(at).args(["-e", sum])).trim(), "50005000\t10000");
}

fn mosquitto() -> Service {
    let home = Home::new();
    let place = home.place(&host());
    let [host, port] = place.host_and_port();
    let file = home.write("mosquitto.conf", &format!("listener {port} {host}\nallow_anonymous true\n"));
    let mut command = home.command("mosquitto");
    command.arg("-c").arg(file);
    Service::start(home, place, &mut command)
}

#[test]
fn mqtt_clients_come_to_the_same_broker() {
    if !installed(&["mosquitto", "mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let mut servers = vec![mosquitto(), mosquitto()];
    let gate = serve("MQTT", &servers.iter().collect::<Vec<_>>());
    for server in ["m1", "m2"] {
        wait_until(&gate, server, Health::Up);
    }
    let [host, port] = Place::Ip(gate.gate.address()).host_and_port();
    let mqtt = |program: &str| {
        let mut command = client(program);
        command.args(["-h", &host, "-p", &port, "-q", "1", "-t", "news"]);
        command
    };
    // What is published is kept for who subscribes later, so it is seen whether both meet the same broker.
    let deliver = |text: &str| {
        run(mqtt("mosquitto_pub").args(["-r", "-m", text]));
        let heard = run(mqtt("mosquitto_sub").args(["-C", "1", "-W", "10"]));
        assert_eq!(heard.trim(), text);
    };
    deliver("one");
    deliver("two");
    let connections = |name: &str| {
        let pools = gate.status().pools;
        pools[0]
            .servers
            .iter()
            .find(|server| server.name == name)
            .expect("it is there")
            .attempts
            .values()
            .sum::<u64>()
    };
    let [first, second] = ["m1", "m2"].map(connections);
    assert!((first == 0) != (second == 0), "all of one source: {first} and {second}");

    let own = usize::from(first == 0);
    drop(servers.remove(own));
    wait_until(&gate, ["m1", "m2"][own], Health::Down);
    deliver("three");
}
