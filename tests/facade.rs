//! Logging as a whole process uses it, which this test has for itself: the `log` facade can be given away only once.

use std::fs;
use std::path::Path;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::thread;
use std::time::Duration;

use tidegate::config::{self, Config, Event, LogFormat, LogOutput};
use tidegate::logging::{self, Outputs, StartError};
use tidegate::session::{Cause, Record};
use tidegate::snapshot::{ListenerId, ServerId, Snapshot};
use tidegate::sys::Clock;

fn config(dir: &Path) -> Config {
    let text = r#"
        [listener.web]
        bind = ["127.0.0.1:0"]
        pool = "app"
        [pool.app]
        server = [{ name = "alpha", addr = "127.0.0.1:9001" }]
    "#;
    let mut config = config::parse(text, "test").unwrap();
    config.log.output = LogOutput::File(dir.join("log"));
    config.log.format = LogFormat::Json;
    config.access.output = Some(LogOutput::File(dir.join("access")));
    config
}

/// How often the writers' threads, of which there must be one, were taken off a CPU.
#[cfg(target_os = "linux")]
fn rests() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let writers: Vec<_> = tasks
        .filter(|task| fs::read_to_string(task.join("comm")).unwrap().trim() == "tidegate-log")
        .collect();
    assert_eq!(writers.len(), 1);
    let status = fs::read_to_string(writers[0].join("status")).unwrap();
    let counts = status.lines().filter_map(|line| Some(line.split_once("ctxt_switches:")?.1));
    counts.map(|count| count.trim().parse::<u64>().unwrap()).sum()
}

#[test]
fn the_facade_and_the_recorders_write_and_then_rest() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let names = Arc::new(Snapshot::new(&config, 1));
    let clock = Clock::start();
    let open = || Outputs::open(&config, clock).unwrap();
    let (logging, mut recorders) = logging::start(open(), &config, &names, vec!["mio"], clock).unwrap();
    let again = logging::start(open(), &config, &names, vec!["mio"], clock).unwrap_err();
    assert!(matches!(again, StartError::Twice(_)), "{again}");

    log::info!("listening on {}", "127.0.0.1:8080");
    log::debug!("not at this level");
    logging.control().set_level(log::LevelFilter::Debug);
    log::debug!("at this one");
    recorders[0].push(Record {
        event: Event::Close,
        id: 1,
        worker: 0,
        listener: ListenerId(0),
        server: Some(ServerId(0)),
        client: "127.0.0.1:40000".parse().ok(),
        heard: None,
        probes: false,
        tries: 1,
        redispatched: false,
        queue_ms: 0,
        connect_ms: Some(0),
        began: clock.now(),
        ended: clock.now(),
        bytes_in: 1,
        bytes_out: 2,
        cause: Some(Cause::Done),
        paths: [None; 2],
    });
    recorders[0].flush();

    #[cfg(target_os = "linux")]
    {
        thread::sleep(Duration::from_millis(300));
        let before = rests();
        assert!(before > 0);
        thread::sleep(Duration::from_millis(500));
        assert_eq!(rests(), before, "nothing to write, and yet the writer does not sleep");
    }

    assert_eq!(logging.stop(Duration::from_secs(10)), 0);
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let expected = [r#""info","msg":"listening on 127.0.0.1:8080"}"#, r#""debug","msg":"at this one"}"#];
    assert_eq!(log.lines().count(), expected.len());
    assert!(
        log.lines().zip(expected).all(|(line, end)| line.ends_with(&format!("Z\",\"level\":{end}"))),
        "{log}"
    );
    let access = fs::read(dir.path().join("access")).unwrap();
    let access: serde_json::Value = serde_json::from_slice(&access).unwrap();
    assert_eq!(access["server"], "alpha");
    assert_eq!(access["bytes_out"], 2);
}
