//! Routes by name with other people's TLS clients and servers: each name gets its own certificate, through each engine, and
//! a wrong one is told so. A test whose programs are not installed says so.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::fmt::Write as _;

use support::PATIENCE;
use support::gate::{Config, Gate};
use support::service::{Home, Running, Service, client, installed, run};

const ENGINES: [&str; 3] = ["mio", "io_uring", "threads"];

/// A folder with a key and a certificate for that name.
fn certified(name: &str) -> Home {
    let home = Home::new();
    let subject = format!("/CN={name}");
    let names = format!("subjectAltName=DNS:{name}");
    let arguments = "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 1 -addext";
    run(home.command("openssl").args(arguments.split(' ')).args([&names, "-subj", &subject]));
    home
}

/// A web server of that name. Its pages tell what it saw of the handshake.
fn web(name: &str) -> Service {
    let home = certified(name);
    let place = home.place("127.0.0.1");
    let mut command = home.command("openssl");
    let address = place.to_string();
    command.args(["s_server", "-www", "-key", "key", "-cert", "cert", "-alpn", "h2,http/1.1"]);
    Service::start(home, place, command.args(["-accept", &address]))
}

/// A listener with a route for each of these servers, and a table of its own for each pool.
fn gate(engine: &'static str, route: &str, servers: &[(&str, &Service)]) -> Gate {
    let (mut routes, mut config) = (Vec::new(), Config::new(engine));
    for (number, (name, server)) in servers.iter().enumerate() {
        routes.push(format!("{{ sni = [\"{name}\"], {route} pool = \"p{number}\" }}"));
        let server = format!("server = [{{ name = \"s\", addr = \"{}\" }}]", server.place());
        config = config.table(&format!("pool.p{number}"), &server);
    }
    // The pool that a configuration of tests has is not used here.
    let config = config.server("127.0.0.1:9").listener(&format!("route = [{}]", routes.join(", ")));
    Gate::start(&config.to_string().replace("pool = \"p\"\n", ""))
}

#[test]
fn openssl_gets_the_certificate_of_the_name_that_it_asks_for() {
    if !installed(&["openssl"]) {
        return;
    }
    let servers = ["a.test", "x.b.test"].map(web);
    for engine in ENGINES {
        let gate = gate(engine, "", &[("a.test", &servers[0]), ("*.b.test", &servers[1])]);
        let ask = |name: &str, arguments: &[&str]| {
            let mut openssl = client("openssl");
            openssl.args(["s_client", "-connect", gate.place(), "-servername", name]).args(arguments);
            openssl
        };
        // In one record, and in many.
        let many: Vec<String> = (0..40).map(|number| format!("{number:0>200}")).collect();
        let many = format!("{},h2", many.join(","));
        for cut in [[].as_slice(), &["-tls1_2"], &["-alpn", &many, "-max_send_frag", "512"]] {
            for (name, subject) in [("a.test", "CN = a.test"), ("x.b.test", "CN = x.b.test")] {
                let said = run(&mut ask(name, cut));
                assert!(said.contains(&format!("subject={subject}")), "{engine}, {name}, {cut:?}: {said}");
            }
        }
        let said = Running::start(&mut ask("c.test", &[])).fail(PATIENCE);
        assert!(said.contains("unrecognized name"), "{said}");
        assert_eq!(gate.stop().iter().filter(|access| access.cause == "no_route").count(), 1);
    }
}

#[test]
fn curl_gets_pages_of_the_host_that_it_asks_for() {
    if !installed(&["openssl", "curl"]) {
        return;
    }
    let servers = ["a.test", "b.test"].map(web);
    for engine in ENGINES {
        let gate = gate(engine, "", &[("a.test", &servers[0]), ("b.test", &servers[1])]);
        let curl = |name: &str, server: &Service| {
            let mut curl = client("curl");
            let to = format!("{name}:443:{}", gate.place());
            let url = format!("https://{name}/");
            curl.args(["--silent", "--show-error", "--http1.1", "--connect-to", &to, &url, "--cacert"]);
            curl.arg(server.home().path("cert"));
            curl
        };
        // Certificates are verified: a page of the other one would be refused.
        for (name, server) in [("a.test", &servers[0]), ("b.test", &servers[1])] {
            assert!(run(&mut curl(name, server)).contains("s_server -www"));
        }
        let said = Running::start(&mut curl("c.test", &servers[0])).fail(PATIENCE);
        assert!(said.contains("unrecognized name"), "{said}");
    }
}

/// PostgreSQL with a certificate for that name, in which a query for `whoami` answers with it.
fn postgres(name: &str) -> Service {
    let home = certified(name);
    run(home.command("chmod").args(["600", "key"]));
    let initdb = "--no-sync --no-locale --encoding=UTF8 --auth=trust --username=tester data";
    run(home.command("initdb").args(initdb.split(' ')));
    let place = home.place("127.0.0.1");
    let [host, port] = place.host_and_port();
    let mut settings =
        String::from("ssl = on\nssl_cert_file = '../cert'\nssl_key_file = '../key'\nfsync = off\n");
    writeln!(settings, "listen_addresses = '{host}'\nport = {port}\nunix_socket_directories = ''").unwrap();
    writeln!(settings, "cluster_name = '{name}'").unwrap();
    home.write("data/postgresql.auto.conf", &settings);
    let mut command = home.command("postgres");
    let service = Service::start(home, place, command.args(["-D", "data"]));
    // It listens some time before it serves, and turns clients away until then.
    let began = std::time::Instant::now();
    while !service.log().contains("ready to accept connections") {
        assert!(began.elapsed() < PATIENCE, "{}", service.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    service
}

#[test]
fn psql_asks_for_tls_and_gets_the_database_of_its_name() {
    if !installed(&["openssl", "psql", "postgres", "initdb"]) {
        return;
    }
    let servers = ["a.test", "b.test"].map(postgres);
    for engine in ENGINES {
        let route = "starttls = \"postgres\",";
        let gate = gate(engine, route, &[("a.test", &servers[0]), ("b.test", &servers[1])]);
        let [host, port] = [gate.address().ip().to_string(), gate.address().port().to_string()];
        let psql = |name: &str, server: &Service, mode: &str| {
            let cert = server.home().path("cert");
            let mut psql = client("psql");
            psql.args(["-X", "-A", "-t", "-c"]);
            psql.arg(
                "select current_setting('cluster_name'), ssl from pg_stat_ssl where pid = pg_backend_pid()",
            );
            psql.arg(format!(
                "host={name} hostaddr={host} port={port} user=tester dbname=postgres sslmode={mode} sslrootcert={}",
                cert.display()
            ));
            psql
        };
        for (name, server) in [("a.test", &servers[0]), ("b.test", &servers[1])] {
            assert_eq!(run(&mut psql(name, server, "verify-full")).trim(), format!("{name}|t"), "{engine}");
        }
        let said = Running::start(&mut psql("c.test", &servers[0], "require")).fail(PATIENCE);
        assert!(said.contains("unrecognized name"), "{said}");
        let said = Running::start(&mut psql("a.test", &servers[0], "disable")).fail(PATIENCE);
        assert!(said.contains("reset") || said.contains("closed"), "{said}");
        let causes: Vec<_> = gate.stop().into_iter().map(|access| access.cause).collect();
        assert_eq!(causes.iter().filter(|cause| *cause == "no_route").count(), 2, "{causes:?}");
    }
}
