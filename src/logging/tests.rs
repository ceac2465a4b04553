use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use log::{Level, LevelFilter, Log as _};
use tempfile::TempDir;

use super::*;
use crate::config::{self, Access, AccessFormat, LogFormat};
use crate::path::Path as NetworkPath;
use crate::session::Cause;
use crate::snapshot::{ListenerId, ServerId};
use crate::tick::Tick;

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(10);

/// One listener, `web`, one pool, `app`, and its servers `alpha` and `beta`.
const CONFIG: &str = r#"
[listener.web]
bind = ["127.0.0.1:0"]
pool = "app"
[pool.app]
server = [{ name = "alpha", addr = "127.0.0.1:9001" }, { name = "beta", addr = "127.0.0.1:9002" }]
"#;

pub(super) fn names() -> Arc<Snapshot> {
    names_of(CONFIG)
}

pub(super) fn names_of(text: &str) -> Arc<Snapshot> {
    Arc::new(Snapshot::new(&config::parse(text, "test").unwrap(), 1))
}

/// A connection that went well.
pub(super) fn relayed() -> Record {
    Record {
        event: Event::Close,
        id: 255,
        worker: 1,
        listener: ListenerId(0),
        server: Some(ServerId(1)),
        client: Some("192.0.2.7:40001".parse().unwrap()),
        heard: None,
        probes: false,
        tries: 2,
        redispatched: true,
        queue_ms: 0,
        connect_ms: Some(3),
        began: Tick(7_000),
        ended: Tick(8_123),
        bytes_in: 78,
        bytes_out: u64::MAX,
        cause: Some(Cause::Done),
        paths: [
            Some(NetworkPath {
                rtt_us: 18_000,
                retransmits: 40,
                sent: 1_000,
                unheard_ms: 700,
                ..NetworkPath::default()
            }),
            Some(NetworkPath { rtt_us: 240, sent: 9, ..NetworkPath::default() }),
        ],
    }
}

/// A connection that was turned away.
pub(super) fn rejected() -> Record {
    Record {
        event: Event::Close,
        id: u64::MAX,
        worker: 0,
        listener: ListenerId(0),
        server: None,
        client: Some("[2001:db8::1]:40002".parse().unwrap()),
        heard: None,
        probes: false,
        tries: 0,
        redispatched: false,
        queue_ms: 0,
        connect_ms: None,
        began: Tick(10_000),
        ended: Tick(10_000),
        bytes_in: 0,
        bytes_out: 0,
        cause: Some(Cause::Maxconn),
        paths: [None; 2],
    }
}

fn config(log: LogOutput, access: Option<LogOutput>) -> Config {
    let format = AccessFormat::Template("id={id} worker={worker}".parse().unwrap());
    Config {
        log: config::Log { level: LevelFilter::Info, output: log, format: LogFormat::Logfmt },
        access: Access { output: access, format, skip_empty: false, ..Access::default() },
        ..config::parse(CONFIG, "test").unwrap()
    }
}

/// Opens the outputs, and launches.
fn launch(
    config: &Config,
    names: &Arc<Snapshot>,
    engines: Vec<&'static str>,
    clock: Clock,
) -> Result<(Logging, Vec<Recorder>, Logger), StartError> {
    super::launch(Outputs::open(config, clock)?, config, names, engines, clock)
}

fn begin(config: &Config, workers: usize) -> (Logging, Vec<Recorder>, Logger) {
    launch(config, &names(), vec!["mio"; workers], Clock::start()).unwrap()
}

fn say(logger: &Logger, text: &str) {
    logger.log(&log::Record::builder().level(Level::Info).args(format_args!("{text}")).build());
}

fn lines_of(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Whether `is_true` becomes true within [`PATIENCE`].
fn becomes(is_true: impl Fn() -> bool) -> bool {
    let clock = Clock::start();
    while !is_true() {
        if clock.now() > Tick(0).after(PATIENCE) {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// A FIFO that is open for reading, and that nobody reads.
fn stalled_fifo(dir: &TempDir) -> (PathBuf, File) {
    let path = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let reader = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
    (path, reader)
}

#[test]
fn lines_and_records_reach_their_files_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (log, access) = (dir.path().join("log"), dir.path().join("access"));
    let (logging, mut recorders, logger) =
        begin(&config(LogOutput::File(log.clone()), Some(LogOutput::File(access.clone()))), 2);
    assert_eq!(recorders.len(), 3, "one more than workers, for updates");
    for id in 0..100 {
        recorders[usize::from(id % 2 == 1)].push(Record { id, worker: (id % 2) as u16, ..relayed() });
    }
    say(&logger, "first");
    say(&logger, "second");
    assert_eq!(logging.stop(PATIENCE), 0);

    let log_lines = lines_of(&log);
    assert_eq!(log_lines.len(), 2);
    assert!(log_lines[0].ends_with(r#"level=info msg="first""#), "{log_lines:?}");
    assert!(log_lines[1].ends_with(r#"level=info msg="second""#), "{log_lines:?}");
    let access_lines = lines_of(&access);
    for worker in 0..2 {
        let of_worker: Vec<&String> =
            access_lines.iter().filter(|line| line.ends_with(&format!("worker={worker}"))).collect();
        let expected: Vec<String> =
            (0..50).map(|index| format!("id={:016x} worker={worker}", index * 2 + worker)).collect();
        assert_eq!(of_worker, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_flush_is_enough_to_get_a_record_written() {
    let dir = tempfile::tempdir().unwrap();
    let access = dir.path().join("access");
    let (logging, mut recorders, logger) =
        begin(&config(LogOutput::File(dir.path().join("log")), Some(LogOutput::File(access.clone()))), 1);
    for expected in 1..=3 {
        // By now the writer has gone to sleep.
        thread::sleep(Duration::from_millis(50));
        recorders[0].push(relayed());
        recorders[0].flush();
        assert!(becomes(|| lines_of(&access).len() == expected));
    }
    thread::sleep(Duration::from_millis(50));
    say(&logger, "a log line needs no flush");
    assert!(becomes(|| lines_of(&dir.path().join("log")).len() == 1));
    assert_eq!(logging.stop(PATIENCE), 0);
}

#[test]
fn after_a_reopen_lines_go_to_the_file_that_has_the_name_by_then() {
    let dir = tempfile::tempdir().unwrap();
    let [log, access] = ["log", "access"].map(|name| dir.path().join(name));
    let (logging, mut recorders, logger) =
        begin(&config(LogOutput::File(log.clone()), Some(LogOutput::File(access.clone()))), 1);
    let control = logging.control();
    for round in 0..5_u64 {
        for id in round * 100..(round + 1) * 100 {
            recorders[0].push(Record { id, ..relayed() });
        }
        say(&logger, &format!("round {round}"));
        let [old_log, old_access] = [&log, &access].map(|path| path.with_extension(round.to_string()));
        fs::rename(&log, &old_log).unwrap();
        fs::rename(&access, &old_access).unwrap();
        control.clone().reopen();
        assert!(becomes(|| log.exists() && access.exists()));
        assert_eq!(fs::metadata(&access).unwrap().permissions().mode() & 0o777, 0o640);
        // All that came before has gone to the old ones, and nothing after it will.
        let lines = lines_of(&old_log);
        assert!(lines.len() == 1 && lines[0].ends_with(&format!(r#" msg="round {round}""#)), "{lines:?}");
        let expected: Vec<String> =
            (round * 100..(round + 1) * 100).map(|id| format!("id={id:016x} worker=1")).collect();
        assert_eq!(lines_of(&old_access), expected);
    }
    say(&logger, "end");
    assert_eq!(logging.stop(PATIENCE), 0);
    assert!(lines_of(&log).len() == 1 && lines_of(&access).is_empty());
}

#[test]
fn what_cannot_be_reopened_is_written_on_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let [folder, gone] = ["logs", "gone"].map(|name| dir.path().join(name));
    fs::create_dir(&folder).unwrap();
    let [log, access] = ["log", "access"].map(|name| folder.join(name));
    let (logging, mut recorders, logger) =
        begin(&config(LogOutput::File(log.clone()), Some(LogOutput::File(access.clone()))), 1);
    fs::rename(&folder, &gone).unwrap();
    logging.control().reopen();
    let told = || lines_of(&gone.join("log"));
    assert!(becomes(|| told().len() == 2), "{:?}", told());
    for (line, (key, path)) in told().iter().zip([("log.output", &log), ("log.access.output", &access)]) {
        let text = format!(
            "{key} = \"{}\": cannot open it anew: No such file or directory (os error 2); lines go on to where they \
             went; see that its folder exists and that this process may write there, then send SIGUSR1 again",
            path.display()
        );
        assert!(line.contains(" level=error ") && line.contains(&text.replace('"', "\\\"")), "{line}");
    }
    recorders[0].push(relayed());
    recorders[0].flush();
    say(&logger, "still here");
    assert!(becomes(|| told().len() == 3 && lines_of(&gone.join("access")).len() == 1));

    fs::create_dir(&folder).unwrap();
    logging.control().reopen();
    assert!(becomes(|| log.exists() && access.exists()));
    recorders[0].push(relayed());
    assert_eq!(logging.stop(PATIENCE), 0);
    assert_eq!((told().len(), lines_of(&log).len(), lines_of(&access).len()), (3, 0, 1));
}

#[test]
fn a_level_holds_from_when_it_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (logging, _, logger) = begin(&config(LogOutput::File(path.clone()), None), 0);
    let say_at = |level, text: &str| {
        logger.log(&log::Record::builder().level(level).args(format_args!("{text}")).build());
    };
    let control = logging.control();
    say_at(Level::Debug, "not yet");
    control.set_level(LevelFilter::Debug);
    assert_eq!(log::max_level(), LevelFilter::Debug);
    say_at(Level::Debug, "now");
    control.set_level(LevelFilter::Error);
    say_at(Level::Warn, "no more");
    say_at(Level::Error, "always");
    control.set_level(LevelFilter::Off);
    say_at(Level::Error, "never");
    assert_eq!(logging.stop(PATIENCE), 0);
    let lines = lines_of(&path);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].ends_with(r#"level=debug msg="now""#) && lines[1].ends_with(r#"level=error msg="always""#)
    );
}

#[test]
fn updates_have_a_recorder_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access");
    let mut config = config(LogOutput::Stderr, Some(LogOutput::File(path.clone())));
    config.access.format = AccessFormat::Template("{event} {bytes_out} {cause}".parse().unwrap());
    config.access.events = vec![Event::Open, Event::Update, Event::Close];
    config.access.update_every = Some(Duration::from_secs(60));
    let (logging, mut recorders, _) = begin(&config, 2);
    let open = Record { event: Event::Open, cause: None, bytes_out: 0, ..relayed() };
    recorders[1].push(open.clone());
    recorders[1].flush();
    assert!(becomes(|| lines_of(&path).len() == 1));
    let mut control = recorders.pop().expect("one behind those of the workers");
    // In the time in which the writer waits for a batch to gather, a whole life.
    control.push(Record { event: Event::Update, bytes_out: 5, ..open });
    recorders[1].push(Record { bytes_out: 7, ..relayed() });
    assert_eq!(logging.stop(PATIENCE), 0);
    assert_eq!(lines_of(&path), ["open 0 -", "update 5 -", "close 7 done"]);
}

#[test]
fn lines_of_both_kinds_share_one_file_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("both");
    let output = LogOutput::File(path.clone());
    let (logging, mut recorders, logger) = begin(&config(output.clone(), Some(output)), 1);
    let count = 1000;
    for id in 0..count {
        recorders[0].push(Record { id, ..relayed() });
        say(&logger, "between");
        if id % 100 == 0 {
            recorders[0].flush();
        }
    }
    assert_eq!(logging.stop(PATIENCE), 0);
    let lines = lines_of(&path);
    let (log_lines, access_lines): (Vec<&String>, Vec<&String>) =
        lines.iter().partition(|line| line.starts_with("ts="));
    assert_eq!((log_lines.len(), access_lines.len()), (1000, 1000));
    assert!(log_lines.iter().all(|line| line.ends_with(r#"Z level=info msg="between""#)));
    let expected: Vec<String> = (0..count).map(|id| format!("id={id:016x} worker=1")).collect();
    assert_eq!(access_lines, expected.iter().collect::<Vec<_>>());
}

#[test]
fn the_time_stamp_is_the_moment_of_the_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access");
    let mut config = config(LogOutput::Stderr, Some(LogOutput::File(path.clone())));
    config.access.format = AccessFormat::Template("{ts}".parse().unwrap());
    let clock = Clock::start();
    let (logging, mut recorders, _) = launch(&config, &names(), vec!["mio"], clock).unwrap();
    let ended_ms = clock.wall_ms();
    recorders[0].push(Record { ended: clock.now(), ..relayed() });
    thread::sleep(Duration::from_millis(300));
    assert_eq!(logging.stop(PATIENCE), 0);
    let shown: jiff::Timestamp = lines_of(&path)[0].parse().unwrap();
    let difference = shown.as_millisecond() - ended_ms;
    assert!((-5..100).contains(&difference), "{difference} ms");
}

#[test]
fn a_file_is_appended_to_and_not_readable_by_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for text in ["one", "two"] {
        let (logging, _, logger) = begin(&config(LogOutput::File(path.clone()), None), 0);
        say(&logger, text);
        assert_eq!(logging.stop(PATIENCE), 0);
    }
    let lines = lines_of(&path);
    assert!(lines[0].ends_with(r#"msg="one""#) && lines[1].ends_with(r#"msg="two""#), "{lines:?}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
}

#[test]
fn without_an_access_log_records_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (logging, mut recorders, _) = begin(&config(LogOutput::File(path.clone()), None), 2);
    assert_eq!(recorders.len(), 3);
    recorders[1].push(relayed());
    recorders[1].flush();
    assert_eq!(logging.stop(PATIENCE), 0);
    assert_eq!(lines_of(&path), Vec::<String>::new());
}

#[test]
fn an_output_that_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error_of =
        |config: &Config| launch(config, &names(), vec!["mio"], Clock::start()).unwrap_err().to_string();
    let missing = dir.path().join("missing").join("log");
    assert_eq!(
        error_of(&config(LogOutput::File(missing.clone()), None)),
        format!("log.output = \"{}\": No such file or directory (os error 2)", missing.display())
    );
    let good = LogOutput::File(dir.path().join("log"));
    assert_eq!(
        error_of(&config(good.clone(), Some(LogOutput::File(dir.path().to_owned())))),
        format!("log.access.output = \"{}\": Is a directory (os error 21)", dir.path().display())
    );
    let socket = dir.path().join("socket");
    assert_eq!(
        error_of(&config(good, Some(LogOutput::Syslog(socket.clone())))),
        format!(
            "log.access.output = \"syslog:{}\": No such file or directory (os error 2)",
            socket.display()
        )
    );
}

#[test]
fn a_fifo_without_a_reader_does_not_hang_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (path, reader) = stalled_fifo(&dir);
    drop(reader);
    let error =
        launch(&config(LogOutput::File(path), None), &names(), Vec::new(), Clock::start()).unwrap_err();
    assert!(matches!(error, StartError::Output { key: "log.output", .. }), "{error}");
}

#[test]
fn a_stalled_output_stalls_nobody_and_every_loss_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut reader) = stalled_fifo(&dir);
    let output = LogOutput::File(path);
    let (logging, mut recorders, logger) = begin(&config(output.clone(), Some(output)), 1);
    let clock = Clock::start();
    let mut offered = 0;
    let mut longest = Duration::ZERO;
    while clock.now() < Tick(1000) {
        let before = clock.now();
        for id in 0..1000 {
            recorders[0].push(Record { id, ..relayed() });
            say(&logger, "stuck?");
        }
        recorders[0].flush();
        offered += 2000;
        longest = longest.max(clock.now().since(before));
        thread::sleep(Duration::from_millis(1));
    }
    assert!(longest < Duration::from_millis(500), "2000 pushes took {longest:?}");
    assert!(logging.tallies.iter().all(|tally| tally.dropped() > 0), "ring and channel have not filled up");

    let before = clock.now();
    let lost = logging.stop(Duration::from_millis(200));
    let took = clock.now().since(before);
    assert!((Duration::from_millis(199)..Duration::from_secs(2)).contains(&took), "{took:?}");

    let mut bytes = vec![0; 1 << 20];
    let size = reader.read(&mut bytes).unwrap();
    let written = bytes[..size].iter().filter(|byte| **byte == b'\n').count() as u64;
    assert!(written > 0);
    assert_eq!(lost, offered - written);
}

#[test]
fn drops_are_told_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, mut reader) = stalled_fifo(&dir);
    let log = dir.path().join("log");
    let (logging, mut recorders, _) =
        begin(&config(LogOutput::File(log.clone()), Some(LogOutput::File(fifo))), 1);
    let extra = 50_000;
    for _ in 0..extra {
        recorders[0].push(relayed());
    }
    recorders[0].flush();
    // The output recovers: somebody reads on until the end.
    let reading = thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        let mut written = 0;
        loop {
            match reader.read(&mut bytes) {
                Ok(0) => return written,
                Ok(size) => written += bytes[..size].iter().filter(|byte| **byte == b'\n').count() as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert!(becomes(|| !lines_of(&log).is_empty()));
    let lost = logging.stop(PATIENCE);
    let written = reading.join().unwrap();
    assert!(lost > 0 && lost + written == extra, "{lost} lost, {written} written");
    let told: u64 = lines_of(&log)
        .iter()
        .map(|line| {
            let (_, rest) = line.split_once(r#" level=warn msg="dropped "#).unwrap();
            let count = rest.strip_suffix(r#" access records: the output cannot keep up""#).unwrap();
            count.parse::<u64>().unwrap()
        })
        .sum();
    assert_eq!(told, lost);
}

#[test]
fn syslog_gets_both_kinds_of_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let daemon = UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let output = LogOutput::Syslog(path);
    let (logging, mut recorders, logger) = begin(&config(output.clone(), Some(output)), 1);
    say(&logger, "hello");
    let received = || {
        let mut packet = [0; 1024];
        let size = daemon.recv(&mut packet).unwrap();
        String::from_utf8(packet[..size].to_vec()).unwrap()
    };
    let head = format!("<30>tidegate[{}]: ", std::process::id());
    let line = received();
    assert!(line.starts_with(&format!("{head}ts=")) && line.ends_with(r#" msg="hello""#), "{line}");
    recorders[0].push(relayed());
    recorders[0].flush();
    assert_eq!(received(), format!("{head}id=00000000000000ff worker=1"));
    assert_eq!(logging.stop(PATIENCE), 0);
}
