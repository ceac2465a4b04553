//! Real clients and servers with the program between them: what works directly must work through it.
//!
//! Each test starts the servers of a pool, runs the client against the first of them and then against the program,
//! and prints both figures (`cargo test --release --test clients -- --show-output`). A test whose programs are not
//! installed says so. `TIDEGATE_BULK_MIB` is the size of the file that sftp (128) and rsync (1024) move.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::PATIENCE;
use support::gate::{Config, Gate};
use support::process::{descriptors, descriptors_settle};
use support::service::{Home, Place, Running, Service, assert_same_bytes, client, installed, run, run_for};

const MIB: u64 = 1024 * 1024;

/// What each engine must carry.
macro_rules! tests {
    ($($engine:ident: $($test:ident)*;)*) => {
        $(mod $engine {
            $(#[test]
            fn $test() {
                super::$test(stringify!($engine));
            })*
        })*
    };
}

tests! {
    mio:
        http_keeps_32_connections_of_wrk_busy
        http_carries_what_curl_downloads_and_uploads
        redis_answers_50_clients_of_its_benchmark
        redis_values_messages_and_waiting_pops_arrive
        postgres_serves_pgbench_and_copies_a_table
        sftp_brings_a_big_file_there_and_back
        rsync_brings_a_big_file_there_and_back
        rsync_pushes_and_pulls_a_tree
        iperf3_fills_the_connection_up_down_and_both_ways
        mosquitto_delivers_1000_messages_in_order
        socat_half_closes_and_gets_the_checksum;
    io_uring:
        http_keeps_32_connections_of_wrk_busy
        redis_answers_50_clients_of_its_benchmark
        postgres_serves_pgbench_and_copies_a_table
        sftp_brings_a_big_file_there_and_back
        iperf3_fills_the_connection_up_down_and_both_ways;
    threads:
        http_keeps_32_connections_of_wrk_busy
        redis_answers_50_clients_of_its_benchmark
        postgres_serves_pgbench_and_copies_a_table
        sftp_brings_a_big_file_there_and_back
        iperf3_fills_the_connection_up_down_and_both_ways;
}

/// The hosts of the listener and of the servers of its pool.
const IP: [(&str, &str); 3] = [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::1", "127.0.0.1")];
const UNIX: [(&str, &str); 3] = [("unix", "::1"), ("127.0.0.1", "unix"), ("unix", "unix")];

/// What a client measured: a name, a number and its unit.
type Figure = (&'static str, f64, &'static str);

/// Plays the same with the first server and with the program that balances all of them, and prints the figures of
/// both. The program must then be as it was before: no descriptor more, nothing in its log but what is usual.
fn both_ways(
    engine: &'static str,
    listener: &str,
    services: &[Service],
    play: impl Fn(&Place) -> Vec<Figure>,
) {
    let direct = play(services[0].place());

    let directory = tempfile::tempdir().unwrap();
    let bind = match listener {
        "unix" => Place::Unix(directory.path().join("front")),
        host => Place::Ip(SocketAddr::new(host.parse().unwrap(), 0)),
    };
    let config = Config::new(engine).workers(2).bind(bind);
    let mut gate =
        Gate::start(&services.iter().fold(config, |config, service| config.server(service.place())));
    let base = descriptors(gate.pid());
    let through = play(&Place::parse(gate.place()));

    println!(
        "{engine}: listener {listener}, {} servers, the first at {}",
        services.len(),
        services[0].place()
    );
    for ((name, direct, unit), (_, through, _)) in direct.iter().zip(&through) {
        println!("{name}: direct {direct:.0} {unit} / through tidegate {through:.0} {unit}");
    }
    assert!(gate.runs());
    assert_eq!(descriptors_settle(gate.pid(), base), base, "descriptors after the last client");
    // It may be run as root, which is warned of at the start.
    let is_trouble = |line: &String| !line.contains("level=info") && !line.contains("running as root");
    let troubles: Vec<_> = gate.log_lines().into_iter().filter(is_trouble).collect();
    assert!(troubles.is_empty(), "{troubles:#?}");
    tell_sessions(gate, services.len());
}

/// Prints how the sessions ended; each server must have had its share.
fn tell_sessions(gate: Gate, servers: usize) {
    let mut ends = BTreeMap::<_, u32>::new();
    let mut of_server = vec![0_usize; servers];
    for session in gate.stop() {
        let server = session.server.as_deref().and_then(|name| name.strip_prefix('s')?.parse::<usize>().ok());
        of_server[server.expect("every session reached a server")] += 1;
        *ends.entry((session.cause, session.closer)).or_default() += 1;
    }
    println!("sessions of each server {of_server:?}, their ends {ends:?}");
    let (least, most) = (of_server.iter().min().unwrap(), of_server.iter().max().unwrap());
    assert!(*least > 0 && most - least <= 1, "{of_server:?}");
}

/// Does work that moves so many bytes: MiB a second, and its result.
fn rate<T>(bytes: u64, work: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let result = work();
    ((bytes / MIB) as f64 / began.elapsed().as_secs_f64(), result)
}

/// A file of so many bytes that do not repeat.
fn write_noise(path: &Path, bytes: u64) {
    let mut noise = File::open("/dev/urandom").unwrap().take(bytes);
    io::copy(&mut noise, &mut File::create(path).unwrap()).unwrap();
}

/// Waits until it comes true.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The number that stands after `label` in a client's report.
fn number_after(report: &str, label: &str) -> f64 {
    let (_, rest) = report.split_once(label).unwrap_or_else(|| panic!("no {label:?} in:\n{report}"));
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("no number after {label:?} in:\n{report}"))
}

/// nginx with a folder `files`, where clients may also upload.
fn nginx(host: &str) -> Service {
    let home = Home::new();
    let place = home.place(host);
    home.folder("files");
    let configuration = home.write(
        "nginx.conf",
        &format!(
            "daemon off; pid nginx.pid; error_log stderr warn;
            events {{ worker_connections 512; }}
            http {{
                access_log off; client_max_body_size 0; keepalive_requests 1000000;
                client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                server {{ listen {place}; root files; dav_methods PUT; }}
            }}"
        ),
    );
    let mut command = home.command("nginx");
    command.args(["-e", "stderr", "-p"]).arg(home.path("")).arg("-c").arg(configuration);
    Service::start(home, place, &mut command)
}

fn http_keeps_32_connections_of_wrk_busy(engine: &'static str) {
    if !installed(&["nginx", "wrk"]) {
        return;
    }
    let services = [nginx("127.0.0.1"), nginx("127.0.0.1")];
    let scratch = tempfile::tempdir().unwrap();
    let page = scratch.path().join("page");
    write_noise(&page, 1024);
    for service in &services {
        fs::copy(&page, service.home().path("files/page")).unwrap();
    }
    let script = scratch.path().join("check.lua");
    let check = format!(
        "local file = io.open({page:?}, 'rb'); local page = file:read('*a'); file:close()
        function response(status, headers, body)
            if status ~= 200 or body ~= page then print('wrong answer') end
        end"
    );
    fs::write(&script, check).unwrap();

    both_ways(engine, "127.0.0.1", &services, |target| {
        let mut wrk = client("wrk");
        wrk.args(["-t", "2", "-c", "32", "-d", "2s", "-s"]).arg(&script).arg(format!("http://{target}/page"));
        let report = run(&mut wrk);
        for trouble in ["wrong answer", "Socket errors", "Non-2xx"] {
            assert!(!report.contains(trouble), "{report}");
        }
        let requests = number_after(&report, "Requests/sec:");
        assert!(requests > 0.0, "{report}");
        vec![("wrk", requests, "requests/s")]
    });
}

fn http_carries_what_curl_downloads_and_uploads(engine: &'static str) {
    if !installed(&["nginx", "curl"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let [big, got] = ["big", "got"].map(|name| scratch.path().join(name));
    write_noise(&big, 64 * MIB);
    for (listener, host) in [IP[0], IP[1], UNIX[2]] {
        let services = [nginx(host), nginx(host)];
        for service in &services {
            fs::copy(&big, service.home().path("files/big")).unwrap();
        }
        both_ways(engine, listener, &services, |target| {
            let (mut curl, url) = curl_to(target);
            curl.args(["-w", "%{num_connects} "]).args([format!("{url}/big"), format!("{url}/big")]);
            let (down, connects) = rate(2 * 64 * MIB, || run(curl.args(["-o", "/dev/null", "-o"]).arg(&got)));
            assert_eq!(connects, "1 0 ", "connections for the first and for the second download");
            assert_same_bytes(&big, &got);

            let (mut curl, url) = curl_to(target);
            let (up, _) = rate(64 * MIB, || run(curl.arg("-T").arg(&big).arg(format!("{url}/uploaded"))));
            let uploads = services.iter().map(|service| service.home().path("files/uploaded"));
            let uploaded = uploads.into_iter().find(|path| path.exists()).expect("a server has the upload");
            assert_same_bytes(&big, &uploaded);
            fs::remove_file(uploaded).unwrap();
            vec![("curl, down", down, "MiB/s"), ("curl, up", up, "MiB/s")]
        });
    }
}

/// curl, and the beginning of the URLs that it is to be given.
fn curl_to(target: &Place) -> (Command, String) {
    let mut curl = client("curl");
    curl.arg("-sSf");
    match target {
        Place::Ip(address) => (curl, format!("http://{address}")),
        Place::Unix(path) => {
            curl.arg("--unix-socket").arg(path);
            (curl, "http://localhost".to_owned())
        }
    }
}

fn redis(host: &str) -> Service {
    let home = Home::new();
    let place = home.place(host);
    let mut command = home.command("redis-server");
    match &place {
        Place::Ip(address) => command.args(["--bind", host, "--port", &address.port().to_string()]),
        Place::Unix(path) => command.args(["--port", "0", "--unixsocket"]).arg(path),
    };
    command.args(["--save", "", "--loglevel", "warning"]);
    Service::start(home, place, &mut command)
}

fn redis_client(program: &str, target: &Place) -> Command {
    let mut command = client(program);
    match target {
        Place::Ip(address) => {
            command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
        }
        Place::Unix(path) => command.arg("-s").arg(path),
    };
    command
}

fn ask_redis(target: &Place, question: &[&str]) -> String {
    run(redis_client("redis-cli", target).args(question))
}

fn redis_answers_50_clients_of_its_benchmark(engine: &'static str) {
    if !installed(&["redis-server", "redis-cli", "redis-benchmark"]) {
        return;
    }
    let services = [redis("127.0.0.1"), redis("127.0.0.1")];
    both_ways(engine, "127.0.0.1", &services, |target| {
        ["1", "16"].into_iter().flat_map(|pipeline| redis_benchmark(target, pipeline, &services)).collect()
    });
}

/// 20,000 SET and 20,000 GET, and that the servers have counted as many.
fn redis_benchmark(target: &Place, pipeline: &str, services: &[Service]) -> [Figure; 2] {
    for service in services {
        ask_redis(service.place(), &["config", "resetstat"]);
    }
    let mut benchmark = redis_client("redis-benchmark", target);
    benchmark.args(["-c", "50", "-n", "20000", "-t", "set,get", "-d", "100", "--csv", "-P", pipeline]);
    let report = run(&mut benchmark);

    let counted = |command: &str| -> f64 {
        let label = format!("cmdstat_{command}:calls=");
        let counts = services.iter().map(|service| ask_redis(service.place(), &["info", "commandstats"]));
        counts.filter(|counts| counts.contains(&label)).map(|counts| number_after(&counts, &label)).sum()
    };
    assert_eq!([counted("set"), counted("get")], [20_000.0; 2], "{report}");
    let names = if pipeline == "1" {
        ["redis SET, no pipeline", "redis GET, no pipeline"]
    } else {
        ["redis SET, pipeline of 16", "redis GET, pipeline of 16"]
    };
    let rates = ["\"SET\",\"", "\"GET\",\""].map(|label| number_after(&report, label));
    [(names[0], rates[0], "requests/s"), (names[1], rates[1], "requests/s")]
}

fn redis_values_messages_and_waiting_pops_arrive(engine: &'static str) {
    if !installed(&["redis-server", "redis-cli"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let value = scratch.path().join("value");
    write_noise(&value, 8 * MIB);
    for (listener, host) in IP.into_iter().chain(UNIX) {
        let services = [redis(host)];
        both_ways(engine, listener, &services, |target| {
            let server = services[0].place();
            redis_value(target, &value);
            redis_messages(target, server);
            redis_waiting_pop(target, server);
            vec![]
        });
    }
}

/// A value of some MiB goes up and comes down.
fn redis_value(target: &Place, value: &Path) {
    let answer =
        run(redis_client("redis-cli", target).args(["-x", "set", "key"]).stdin(File::open(value).unwrap()));
    assert_eq!(answer.trim(), "OK");
    let answer = ask_redis(target, &["strlen", "key"]);
    assert_eq!(answer.trim(), (8 * MIB).to_string());
    let get = Running::start(redis_client("redis-cli", target).args(["get", "key"]));
    // redis-cli ends every answer with a newline.
    let answer = get.finish_bytes(PATIENCE);
    assert!(answer.strip_suffix(b"\n") == Some(&fs::read(value).unwrap()), "the value came back changed");
}

/// A client that subscribes gets the messages of another, all and in order.
fn redis_messages(target: &Place, server: &Place) {
    const MESSAGES: usize = 200;
    let subscriber = Running::start(redis_client("redis-cli", target).args(["subscribe", "news"]));
    wait_for("a subscriber", || ask_redis(server, &["pubsub", "numsub", "news"]).contains('1'));
    let scratch = tempfile::tempdir().unwrap();
    let commands = scratch.path().join("commands");
    fs::write(&commands, (0..MESSAGES).map(|n| format!("publish news message-{n}\n")).collect::<String>())
        .unwrap();
    run(redis_client("redis-cli", target).stdin(File::open(&commands).unwrap()));
    let last = format!("message-{}", MESSAGES - 1);
    wait_for("the last message", || subscriber.output().contains(&last));
    let output = subscriber.output();
    let got: Vec<_> = output.lines().filter(|line| line.starts_with("message-")).collect();
    assert_eq!(got, (0..MESSAGES).map(|n| format!("message-{n}")).collect::<Vec<_>>());
}

/// A client waits for an element that another one pushes later.
fn redis_waiting_pop(target: &Place, server: &Place) {
    let waiting = Running::start(redis_client("redis-cli", target).args(["blpop", "list", "20"]));
    wait_for("a waiting client", || {
        number_after(&ask_redis(server, &["info", "clients"]), "blocked_clients:") == 1.0
    });
    ask_redis(target, &["rpush", "list", "element"]);
    assert_eq!(waiting.finish(PATIENCE), "list\nelement\n");
}

/// A new database in `data`.
fn new_database() -> Home {
    let home = Home::new();
    let mut initdb = home.command("initdb");
    initdb.args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "--username=tester", "data"]);
    run(&mut initdb);
    home
}

/// PostgreSQL with a copy of that database, and in it the tables of pgbench.
fn postgres(host: &str, database: &Home) -> Service {
    let home = Home::new();
    let place = home.place(host);
    run(home.command("cp").arg("-a").arg(database.path("data")).arg("data"));
    let mut command = home.command("postgres");
    let [host, port] = place.host_and_port();
    command.args(["-D", "data", "-h", &host, "-p", &port, "-k", "", "-F"]);
    let service = Service::start(home, place, &mut command);
    // It listens some time before it serves, and turns clients away until then.
    wait_for("a database that is ready", || service.log().contains("ready to accept connections"));
    run(postgres_client("pgbench", service.place()).args(["--quiet", "-i", "-s", "1", "postgres"]));
    service
}

fn postgres_client(program: &str, target: &Place) -> Command {
    let [host, port] = target.host_and_port();
    let mut command = client(program);
    command.args(["-h", &host, "-p", &port, "-U", "tester"]);
    command
}

fn postgres_serves_pgbench_and_copies_a_table(engine: &'static str) {
    if !installed(&["postgres", "initdb", "psql", "pgbench"]) {
        return;
    }
    let database = new_database();
    let services = [(); 2].map(|()| postgres("127.0.0.1", &database));
    let scratch = tempfile::tempdir().unwrap();
    let [rows, got] = ["rows", "got"].map(|name| scratch.path().join(name));
    let text: String =
        (0..200_000).map(|row| format!("{row}\t{:x}-{}\n", row * 7919, "filling".repeat(4))).collect();
    fs::write(&rows, &text).unwrap();

    both_ways(engine, "127.0.0.1", &services, |target| {
        let mut figures = Vec::new();
        for (name, connections, options) in [
            ("pgbench, select only", "8", ["-S", "-t500"].as_slice()),
            ("pgbench, reading and writing", "8", &["-N", "-t50"]),
            ("pgbench, a connection for each transaction", "4", &["-S", "-C", "-t25"]),
        ] {
            let mut pgbench = postgres_client("pgbench", target);
            let report =
                run(pgbench.args(["-n", "-j", "2", "-c", connections]).args(options).arg("postgres"));
            assert_eq!(number_after(&report, "number of failed transactions:"), 0.0, "{report}");
            let (done, of) =
                report.split_once("processed: ").unwrap().1.lines().next().unwrap().split_once('/').unwrap();
            assert_eq!(done, of, "{report}");
            figures.push((name, number_after(&report, "tps ="), "transactions/s"));
        }
        let script = format!(
            "create temp table copied (number int, text text);
            \\copy copied from '{}'
            select count(*), sum(number), max(length(text)) from copied;
            \\copy (select * from copied order by number) to '{}'\n",
            rows.display(),
            got.display()
        );
        let file = scratch.path().join("script");
        fs::write(&file, script).unwrap();
        let mut psql = postgres_client("psql", target);
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f"]).arg(&file);
        let (copied, answer) = rate(2 * text.len() as u64, || run(&mut psql));
        assert!(answer.starts_with("200000|19999900000|"), "{answer}");
        assert_same_bytes(&rows, &got);
        figures.push(("psql, COPY up and down", copied, "MiB/s"));
        figures
    });
}

/// The size of a big file: `default` MiB if the environment has no other.
fn bulk_bytes(default: u64) -> u64 {
    env::var("TIDEGATE_BULK_MIB").map_or(default, |mib| mib.parse().expect("TIDEGATE_BULK_MIB is a number"))
        * MIB
}

/// sshd that lets in whoever has the key in its home, and only to move files.
fn sshd(host: &str, public_key: &str) -> Service {
    let home = Home::new();
    let place = home.place(host);
    run(home.command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", "host_key"]));
    let keys = home.write("authorized_keys", public_key);
    let configuration = format!(
        "ListenAddress {place}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM yes\n\
         Subsystem sftp internal-sftp\nForceCommand internal-sftp\n",
        home.path("host_key").display(),
        keys.display()
    );
    let file = home.write("sshd_config", &configuration);
    // It starts itself again for each connection and wants its full name for that; `command` gives it.
    let mut command = home.command("sshd");
    command.args(["-D", "-e", "-f"]).arg(file);
    Service::start(home, place, &mut command)
}

fn sftp_brings_a_big_file_there_and_back(engine: &'static str) {
    if !installed(&["sshd", "sftp", "ssh-keygen"]) {
        return;
    }
    let bytes = bulk_bytes(128);
    let scratch = tempfile::tempdir().unwrap();
    let [key, big, got, batch] = ["key", "big", "got", "batch"].map(|name| scratch.path().join(name));
    run(client("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    write_noise(&big, bytes);
    let services = [sshd("127.0.0.1", &fs::read_to_string(key.with_extension("pub")).unwrap())];
    let (user, there) = (services[0].home().user(), services[0].home().path("big"));
    // Slower than any machine that runs tests, also one that has other files to write.
    let within = PATIENCE + Duration::from_secs(bytes / MIB);

    both_ways(engine, "127.0.0.1", &services, |target| {
        let [host, port] = target.host_and_port();
        let sftp = |order: &str, from: &Path, to: &Path| {
            fs::write(&batch, format!("{order} {} {}\n", from.display(), to.display())).unwrap();
            let mut sftp = client("sftp");
            sftp.args([
                "-q",
                "-F",
                "none",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ]);
            sftp.args(["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-P", &port, "-i"]).arg(&key);
            sftp.arg("-b").arg(&batch).arg(format!("{user}@{host}"));
            rate(bytes, || run_for(within, &mut sftp)).0
        };
        let put = sftp("put", &big, &there);
        assert_same_bytes(&big, &there);
        let get = sftp("get", &there, &got);
        assert_same_bytes(&big, &got);
        fs::remove_file(&got).unwrap();
        vec![("sftp, put", put, "MiB/s"), ("sftp, get", get, "MiB/s")]
    });
}

/// rsync as a daemon, and the folder that it lets clients write in as `store`.
fn rsync_daemon() -> (Service, PathBuf) {
    let home = Home::new();
    let place = home.place("127.0.0.1");
    let store = home.folder("store");
    let configuration =
        format!("use chroot = no\nmax verbosity = 0\n[store]\npath = {}\nread only = no\n", store.display());
    let file = home.write("rsyncd.conf", &configuration);
    let mut command = home.command("rsync");
    let [host, port] = place.host_and_port();
    command.args(["--daemon", "--no-detach", "--address", &host, "--port", &port]);
    command.arg("--config").arg(file);
    (Service::start(home, place, &mut command), store)
}

fn rsync_brings_a_big_file_there_and_back(engine: &'static str) {
    if !installed(&["rsync"]) {
        return;
    }
    let bytes = bulk_bytes(1024);
    let scratch = tempfile::tempdir().unwrap();
    let [big, got] = ["big", "got"].map(|name| scratch.path().join(name));
    write_noise(&big, bytes);
    let (service, store) = rsync_daemon();
    let services = [service];
    let within = PATIENCE + Duration::from_secs(bytes / MIB);

    both_ways(engine, "127.0.0.1", &services, |target| {
        let there = format!("rsync://{target}/store/big");
        // Without --whole-file it would look for what is there already.
        let move_it = |from: &OsStr, to: &OsStr| {
            rate(bytes, || run_for(within, client("rsync").arg("--whole-file").args([from, to]))).0
        };
        let put = move_it(big.as_ref(), there.as_ref());
        assert_same_bytes(&big, &store.join("big"));
        // Two copies at most at a time, here and there, as some disks are small.
        fs::remove_file(&big).unwrap();
        let get = move_it(there.as_ref(), got.as_ref());
        assert_same_bytes(&store.join("big"), &got);
        fs::remove_file(store.join("big")).unwrap();
        fs::rename(&got, &big).unwrap();
        vec![("rsync, put", put, "MiB/s"), ("rsync, get", get, "MiB/s")]
    });
}

fn rsync_pushes_and_pulls_a_tree(engine: &'static str) {
    const FILES: u64 = 500;
    if !installed(&["rsync"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let [tree, got] = ["tree/", "got/"].map(|name| scratch.path().join(name));
    fs::create_dir(&tree).unwrap();
    for file in 0..FILES {
        write_noise(&tree.join(file.to_string()), file * 150);
    }
    let (service, store) = rsync_daemon();
    let services = [service];

    both_ways(engine, "127.0.0.1", &services, |target| {
        let url = format!("rsync://{target}/store/");
        let began = Instant::now();
        run(client("rsync").args(["-r", "--delete"]).arg(&tree).arg(&url));
        run(client("diff").arg("-r").arg(&tree).arg(&store));
        run(client("rsync").args(["-r", "--delete"]).arg(&url).arg(&got));
        run(client("diff").arg("-r").arg(&tree).arg(&got));
        let files = 2.0 * FILES as f64 / began.elapsed().as_secs_f64();
        fs::remove_dir_all(&got).unwrap();
        // The next way begins with an empty store again.
        fs::create_dir(&got).unwrap();
        run(client("rsync").args(["-r", "--delete"]).arg(&got).arg(&url));
        vec![("rsync, a tree there and back", files, "files/s")]
    });
}

fn iperf3_fills_the_connection_up_down_and_both_ways(engine: &'static str) {
    const RUNS: [(&str, &[&str]); 3] =
        [("iperf3, up", &[]), ("iperf3, down", &["-R"]), ("iperf3, both ways", &["--bidir", "-P", "2"])];
    if !installed(&["iperf3"]) {
        return;
    }
    // Each run takes a second.
    for ((listener, host), runs) in IP.into_iter().zip([&RUNS[..], &RUNS[2..], &RUNS[2..]]) {
        let home = Home::new();
        let place = home.place(host);
        let mut command = home.command("iperf3");
        command.args(["-s", "--forceflush", "-B", host, "-p", &place.host_and_port()[1]]);
        let services = [Service::start(home, place, &mut command)];
        both_ways(engine, listener, &services, |target| {
            let figure = |&(name, options)| (name, iperf3(target, &services[0], options), "MiB/s");
            runs.iter().map(figure).collect()
        });
    }
}

/// All that arrived at either end, in MiB a second. Both ends of iperf3 give connections their roles in the order in which they
/// come, which on a busy machine can be another one behind a proxy: then both are to send over some, or to receive, and it is
/// done again.
fn iperf3(target: &Place, server: &Service, options: &[&str]) -> f64 {
    (0..5).find_map(|_| iperf3_once(target, server, options)).expect("something arrives in each direction")
}

/// `None`: a direction has no bytes.
fn iperf3_once(target: &Place, server: &Service, options: &[&str]) -> Option<f64> {
    // It serves one client at a time, and is busy a little longer than the client before.
    wait_for("an idle server", || {
        let log = server.log();
        log.matches("Server listening").count() > log.matches("Accepted connection").count()
    });
    let [host, port] = target.host_and_port();
    let report = run(client("iperf3").args(["-c", &host, "-p", &port, "-t", "1", "-J"]).args(options));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report.get("error").is_none(), "{report:#}");
    let directions = ["", "_bidir_reverse"].into_iter().filter_map(|direction| {
        let [sent, received] =
            ["sum_sent", "sum_received"].map(|name| &report["end"][format!("{name}{direction}")]);
        let [sent, received] =
            [sent, received].map(|sum| Some((sum["bytes"].as_u64()?, sum["seconds"].as_f64()?)));
        let ((sent, _), (received, seconds)) = (sent?, received?);
        assert!(received <= sent, "{sent} bytes sent, {received} received");
        Some((received / MIB) as f64 / seconds)
    });
    let directions: Vec<_> = directions.collect();
    assert_eq!(directions.len(), if options.contains(&"--bidir") { 2 } else { 1 }, "{report:#}");
    directions.iter().all(|rate| *rate > 0.0).then(|| directions.iter().sum())
}

fn mosquitto_delivers_1000_messages_in_order(engine: &'static str) {
    const MESSAGES: usize = 1_000;
    if !installed(&["mosquitto", "mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let home = Home::new();
    let place = home.place("127.0.0.1");
    let configuration = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_type error\n",
        place.host_and_port()[1]
    );
    let file = home.write("mosquitto.conf", &configuration);
    let mut command = home.command("mosquitto");
    command.arg("-c").arg(file);
    let services = [Service::start(home, place, &mut command)];
    let scratch = tempfile::tempdir().unwrap();
    let messages = scratch.path().join("messages");
    let text: String = (0..MESSAGES).map(|number| format!("message {number}\n")).collect();
    fs::write(&messages, &text).unwrap();

    both_ways(engine, "127.0.0.1", &services, |target| {
        let [host, port] = target.host_and_port();
        let command = |program| {
            let mut command = client(program);
            command.args(["-h", &host, "-p", &port, "-q", "1", "-t", "news"]);
            command
        };
        let subscriber = || {
            let mut command = command("mosquitto_sub");
            command.args(["-i", "reader", "-c"]);
            command
        };
        // Leaves a subscription at the broker, so that no message comes too early for the reader.
        run(subscriber().arg("-E"));
        let began = Instant::now();
        let reader = Running::start(subscriber().args(["-C", &MESSAGES.to_string()]));
        run(command("mosquitto_pub").arg("-l").stdin(File::open(&messages).unwrap()));
        assert_eq!(reader.finish(PATIENCE), text);
        vec![("mosquitto, QoS 1", MESSAGES as f64 / began.elapsed().as_secs_f64(), "messages/s")]
    });
}

/// The server answers after the client's FIN, with a checksum of all that came before.
fn socat_half_closes_and_gets_the_checksum(engine: &'static str) {
    if !installed(&["socat", "sha256sum"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let noise = scratch.path().join("noise");
    write_noise(&noise, 8 * MIB);
    let sum = run(client("sha256sum").stdin(File::open(&noise).unwrap()));
    for (listener, host) in IP.into_iter().chain(UNIX) {
        let services = [checksum_server(host), checksum_server(host)];
        both_ways(engine, listener, &services, |target| {
            let address = match target {
                Place::Ip(address) if address.is_ipv4() => format!("TCP4:{address}"),
                Place::Ip(address) => format!("TCP6:{address}"),
                Place::Unix(path) => format!("UNIX-CONNECT:{}", path.display()),
            };
            let mut socat = client("socat");
            socat.args(["-t", "20", "-", &address]).stdin(File::open(&noise).unwrap());
            let (speed, answer) = rate(8 * MIB, || run(&mut socat));
            assert_eq!(answer, sum);
            let answer = run(socat.stdin(File::open(&noise).unwrap()));
            assert_eq!(answer, sum, "the other server");
            vec![("socat, up and FIN", speed, "MiB/s")]
        });
    }
}

fn checksum_server(host: &str) -> Service {
    let home = Home::new();
    let place = home.place(host);
    let listen = match &place {
        Place::Ip(address) if address.is_ipv4() => {
            format!("TCP4-LISTEN:{},bind={host},reuseaddr", address.port())
        }
        Place::Ip(address) => format!("TCP6-LISTEN:{},bind=[{host}],reuseaddr", address.port()),
        Place::Unix(path) => format!("UNIX-LISTEN:{}", path.display()),
    };
    let mut command = home.command("socat");
    let listen = listen + ",fork";
    command.args(["-t", "20", &listen, "EXEC:sha256sum"]);
    Service::start(home, place, &mut command)
}
