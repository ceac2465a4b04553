//! What each kind of check asks, and what it makes of answers, good, bad and hostile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::{File, Member, Run, place};
use crate::echo::{Echo, session};
use crate::fleet::wait_until;
use tidegate::control::model::{Check, Health};

/// Serves each connection with `serve`.
pub(crate) fn scripted(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(place()).expect("the address is free");
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// The program with one server, checked so.
pub(crate) fn checked(address: SocketAddr, check: &str) -> Run {
    let file = File::serving("mio", &[Member::new("s0", address)]);
    Run::start(&file.set("pool.p.check", format!("timeout = \"2s\"\ninterval = \"200ms\"\n{check}")))
}

/// What the first check finds.
pub(crate) fn found(address: SocketAddr, check: &str) -> (Health, Check) {
    let server = checked(address, check).server("s0");
    (server.health, server.check.expect("it is checked"))
}

/// Says its lines, each behind one of the client's if it begins with `<`; then waits for the end.
fn lines(script: &'static [&'static [u8]]) -> SocketAddr {
    scripted(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for line in script {
            let text = line.strip_prefix(b"<").inspect(|_| drop(reader.read_line(&mut String::new())));
            let _ = (&stream).write_all(text.unwrap_or(line));
        }
        let _ = reader.read_to_end(&mut Vec::new());
    })
}

#[test]
fn answers_and_what_they_mean() {
    let steps =
        "kind = \"send_expect\"\nsteps = [{ send = \"HI\\n\" }, { expect = \"OK\" }, { send = \"BYE\\n\" }]";
    let http = "kind = \"http\"\npath = \"/primary\"\nstatus = [\"200\", \"300-399\"]";
    let redis = "kind = \"redis\"";
    let master = "kind = \"redis-master\"";
    let smtp = "kind = \"smtp\"";
    let cases: [(&str, &'static [&'static [u8]], Health, &str); 25] = [
        (steps, &[b"220 hello\r\n", b"<so OK then"], Health::Up, "all 3 steps"),
        (steps, &[], Health::Down, "step 2: no answer within 2s"),
        (
            steps,
            &[b"<no\r\n"],
            Health::Down,
            "step 2: it answered, but not with what is expected (no\\r\\n) within 2s",
        ),
        (http, &[b"<HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], Health::Up, "HTTP status 200"),
        (http, &[b"<HTTP/1.0 302 Found\r\n\r\n"], Health::Up, "HTTP status 302"),
        (http, &[b"<HTTP/1.1 503 Service Unavailable\r\n\r\n"], Health::Down, "HTTP status 503"),
        (http, &[b"<SSH-2.0-x\r\n\r\n"], Health::Down, "no HTTP answer"),
        (redis, &[b"<+PONG\r\n"], Health::Up, "PONG"),
        (redis, &[b"<-NOAUTH Authentication required.\r\n"], Health::Up, "it asks for a password"),
        (redis, &[b"<-LOADING the dataset\r\n"], Health::Down, "no PONG: -LOADING the dataset"),
        (master, &[b"<*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"], Health::Up, "it is a master"),
        (master, &[b"<*5\r\n$5\r\nslave\r\n$1\r\nx\r\n"], Health::Down, "it is a slave"),
        (
            smtp,
            &[b"220-mail\r\n220 mail\r\n", b"<250-mail\r\n250 OK\r\n", b"<221 bye\r\n"],
            Health::Up,
            "220 mail",
        ),
        // It does not say good-bye.
        (smtp, &[b"220 mail\r\n", b"<250 OK\r\n"], Health::Up, "220 mail"),
        (smtp, &[b"554 no\r\n"], Health::Down, "greeting: 554 no"),
        ("kind = \"postgres\"", &[b"R\0\0\0\x08\0\0\0\x0a"], Health::Up, "it asks for a password"),
        ("kind = \"postgres\"", &[b"E\0\0\0\x14SFATAL\0C57P03\0\0\0"], Health::Down, "(57P03)"),
        (
            "kind = \"postgres\"",
            &[b"R\0\0\0\x08\0\0\0\0", b"S\0\0\0\x08a\0b\0", b"K\0\0\0\x0c12345678", b"Z\0\0\0\x05I"],
            Health::Up,
            "it takes sessions",
        ),
        // It lets in, and then has no room.
        (
            "kind = \"postgres\"",
            &[b"R\0\0\0\x08\0\0\0\0", b"E\0\0\0\x19SFATAL\0C53300\0Mfull\0\0"],
            Health::Down,
            "full (53300)",
        ),
        ("kind = \"postgres\"", &[b"HTTP/1.1 400\r\n"], Health::Down, "that is not PostgreSQL"),
        ("kind = \"postgres\"", &[b"RTSP/1.0 400\r\n"], Health::Down, "that is not PostgreSQL"),
        ("kind = \"mysql\"", &[b"\x10\0\0\0\xff\x10\x04Too many conn"], Health::Down, "Too many conn (1040)"),
        ("kind = \"mysql\"", &[b"220 mail.test ESMTP\r\n"], Health::Down, "that is not MySQL"),
        ("kind = \"mysql\"", &[b"SSH-2.0-OpenSSH\r\n"], Health::Down, "that is not MySQL"),
        (
            "kind = \"tls\"",
            &[b"<HTTP/1.1 400 Bad Request\r\n"],
            Health::Down,
            "it does not speak TLS (received",
        ),
    ];
    for (check, script, health, reason) in cases {
        let (is, check_found) = found(lines(script), check);
        assert!(
            is == health && check_found.reason.contains(reason),
            "{check} {script:?}: {is:?} {check_found:?}"
        );
    }
}

/// What is shown of an answer that is refused is its beginning, not the end of all that came; and nothing that was taken.
#[test]
fn a_refused_answer_is_shown_from_its_beginning() {
    let steps = "kind = \"send_expect\"\nsteps = [{ expect = \"hello\\r\\n\" }, { send = \"AUTH\\n\" }, { expect = \"+OK\" }]";
    let refusal =
        "-ERR AUTH called without a password that is longer than sixty-four bytes, see the manual\r\n";
    let refuses = scripted(move |stream| {
        let _ = (&stream).write_all(b"hello\r\n");
        let mut reader = BufReader::new(&stream);
        let _ = reader.read_line(&mut String::new());
        let _ = (&stream).write_all(refusal.as_bytes());
        let _ = reader.read_to_end(&mut Vec::new());
    });
    let (health, check) = found(refuses, steps);
    let reason = format!("step 3: it answered, but not with what is expected ({}) within 2s", &refusal[..64]);
    assert_eq!((health, check.reason), (Health::Down, reason));
    assert!(check.received.ends_with("see the manual\\r\\n"), "{}", check.received);
    let (health, check) = found(lines(&[b"hello\r\n"]), steps);
    assert_eq!((health, check.reason.as_str()), (Health::Down, "step 3: no answer within 2s"));
    let closes = scripted(|mut stream| {
        let _ = stream.write_all(b"hello\r\n");
        let _ = stream.read(&mut [0; 64]);
    });
    let (health, check) = found(closes, steps);
    assert_eq!((health, check.reason.as_str()), (Health::Down, "step 3: it closed the connection"));
}

/// HTTP has the reasons that others have.
#[test]
fn http_tells_why_there_is_no_answer() {
    let resets = scripted(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    });
    let closes = scripted(|mut stream| drop(stream.read(&mut [0; 1024])));
    // What it says comes before the question, or in the place of an answer.
    let speaks = lines(&[b"220 hello\r\n"]);
    for (address, reasons) in [
        (resets, ["connection reset", "reset by peer"]),
        (closes, ["it closed the connection"; 2]),
        (speaks, ["received unexpected message", "invalid HTTP version"]),
    ] {
        let (_, check) = found(address, "kind = \"http\"");
        let is_right = reasons.iter().any(|reason| check.reason.contains(reason));
        assert!(is_right && check.reason.starts_with("no HTTP answer: "), "{check:?}");
    }
}

/// Endless, slow, silent and binary answers end their own check in its time, and no other one.
#[test]
fn hostile_answers_end_that_check_only() {
    let endless = scripted(|mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {});
    let slow = scripted(|mut stream| {
        while stream.write_all(b"2").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let binary = scripted(|mut stream| {
        let _ = stream.write_all(&[0, 0xff, b'"', b'\n', 0x1b]);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let good = lines(&[b"<+PONG\r\n"]);
    let members = [
        Member::new("endless", endless),
        Member::new("slow", slow),
        Member::new("binary", binary),
        Member::new("good", good),
    ];
    let check = "kind = \"redis\"\ninterval = \"100ms\"\ntimeout = \"2s\"";
    let run = Run::start(&File::serving("mio", &members).set("pool.p.check", check));
    run.wait_for("ten checks", |status| {
        let server = status.pools[0].servers.iter().find(|server| server.name == "good");
        server.and_then(|good| good.check.as_ref()).is_some_and(|check| check.results["passed"] >= 10)
    });
    for name in ["endless", "slow", "binary"] {
        wait_until(&run, name, Health::Down);
    }
    let check = |name: &str| run.server(name).check.expect("it is checked");
    assert_eq!((run.server("good").health, check("good").results["failed"]), (Health::Up, 0));
    for (name, reason, received) in [
        ("endless", "it sent more than 64 KiB", "xxxx"),
        ("slow", "not with what is expected (22", "22222"),
        ("binary", "no PONG: ", "\\x00\\xff\\\"\\n\\x1b"),
    ] {
        let check = check(name);
        assert!(check.reason.contains(reason) && check.received.contains(received), "{check:?}");
        assert!(check.received.len() <= 64 * 4, "{check:?}");
        assert_eq!((run.server(name).health, check.results["passed"]), (Health::Down, 0));
    }
    let table = run.ctl(&["status"]).well();
    assert!(table.contains("CHECK OF") && table.contains("\\x00\\xff"), "{table}");
}

/// HTTP on another port: a server of which only that part is ill is down.
#[test]
fn http_is_asked_on_another_port() {
    let server = Echo::start();
    let status = Arc::new(Mutex::new("200 OK"));
    let mut agent = server.address();
    agent.set_port(8008);
    let listener = TcpListener::bind(agent).expect("the address is free");
    let (answer, asked) = (Arc::clone(&status), Arc::new(Mutex::new(String::new())));
    let heard = Arc::clone(&asked);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
            *heard.lock().unwrap() = head;
            let _ = (&stream).write_all(format!("HTTP/1.1 {}\r\n\r\n", answer.lock().unwrap()).as_bytes());
        }
    });
    let run =
        checked(server.address(), "kind = \"http\"\nport = 8008\npath = \"/primary\"\nfall = 1\nrise = 1");
    assert_eq!(run.server("s0").health, Health::Up);
    let head = asked.lock().unwrap().clone();
    assert!(head.starts_with("GET /primary HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {agent}\r\n")), "{head}");
    *status.lock().unwrap() = "503 Service Unavailable";
    wait_until(&run, "s0", Health::Down);
    *status.lock().unwrap() = "200 OK";
    wait_until(&run, "s0", Health::Up);
}

/// A check ends with FIN, even if the server has said something; with `close = "rst"` it is reset.
#[test]
fn checks_end_as_close_says() {
    for (close, expected) in [("fin", "end"), ("rst", "Connection reset by peer (os error 104)")] {
        let ends: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&ends);
        let address = scripted(move |mut stream| {
            let said = stream.write_all(b"220 hello\r\n");
            let end = match said.and_then(|()| stream.read(&mut [0; 64])) {
                Ok(0) => "end".to_owned(),
                Ok(count) => format!("{count} bytes"),
                Err(error) => error.to_string(),
            };
            seen.lock().unwrap().push(end);
        });
        let run = checked(address, &format!("close = \"{close}\""));
        run.wait_for("some checks", |status| {
            status.pools[0].servers[0].check.as_ref().is_some_and(|check| check.results["passed"] >= 5)
        });
        let ends = ends.lock().unwrap();
        assert!(ends.len() >= 4 && ends.iter().all(|end| end == expected), "{close}: {ends:?}");
    }
}

pub(crate) fn script(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_program_decides_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let said = "#!/bin/sh\necho \"$1 $TIDEGATE_PORT ${HOME-none}\"; exit ";
    let good = script(folder.path(), "good", &format!("{said}0\n"));
    let bad = script(folder.path(), "bad", &format!("{said}3\n"));
    let address = place();
    let argv = |program: &str| format!("kind = \"exec\"\nargv = [\"{program}\", \"; rm *\"]");
    let (health, check) = found(address, &argv(&good));
    assert_eq!(
        (health, check.reason.as_str(), check.received.as_str()),
        (Health::Up, "exit code 0", "; rm * 17000 none\\n")
    );
    let (health, check) = found(address, &argv(&bad));
    assert_eq!((health, check.reason.as_str()), (Health::Down, "exit code 3"));
    let (health, check) = found(address, &argv("/no/such/program"));
    // That the program is not there says nothing of the server, of which nothing was known before.
    assert_eq!((health, check.last_result.as_deref()), (Health::Down, Some("unable")));
    assert!(check.reason.contains("No such file"), "{check:?}");
}

/// A program that does not end is killed with all that it has started.
#[test]
fn a_program_is_killed_at_its_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let hangs = format!("#!/bin/sh\necho $$ >>{0}\nsleep 100 &\necho $! >>{0}\nwait\n", pids.display());
    let hangs = script(folder.path(), "hangs", &hangs);
    let run = checked(place(), &format!("kind = \"exec\"\nargv = [\"{hangs}\"]"));
    let check = run.server("s0").check.expect("it is checked");
    assert_eq!(check.reason, "it has not ended within 2s");
    drop(run);
    let is_alive = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let began = Instant::now();
    let written = std::fs::read_to_string(&pids).unwrap();
    // The first check has ended; a later one may have been under way when the process was killed.
    let first: Vec<&str> = written.lines().take(2).collect();
    while first.iter().any(|pid| is_alive(pid)) {
        assert!(began.elapsed() < crate::support::PATIENCE, "{written} are alive");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A shortage here is nobody's failure: without a free descriptor nothing is found out.
#[test]
fn a_shortage_here_blames_no_server() {
    let server = Echo::start();
    let run = checked(server.address(), "fall = 1");
    let at = run.gate.address_of("l");
    session(at).expect("it serves");
    // A check may be under way at any one moment.
    let lowest = || crate::support::process::lowest_free_descriptor(run.gate.pid());
    let lowest = (0..50).map(|_| (thread::sleep(Duration::from_millis(10)), lowest()).1).min();
    let before = run.gate.limit_descriptors(lowest.expect("there were some"));
    thread::sleep(Duration::from_secs(1));
    run.gate.limit_descriptors(before);
    let server = run.server("s0");
    let check = server.check.expect("it is checked");
    assert_eq!((server.health, check.results["failed"]), (Health::Up, 0), "{check:?}");
    assert!(check.results["unable"] > 0, "{check:?}");
    assert!(!run.gate.log_lines().iter().any(|line| line.contains("is down")));
}
