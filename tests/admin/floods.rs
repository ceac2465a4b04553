//! Many clients, and clients that take and give nothing.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tidegate::control::serve::MOST_CLIENTS;

use super::fake::served::Served;
use super::world::{fake, fake_of};

#[test]
fn live_connections_are_told_one_a_line_and_no_more_than_asked_for() {
    let served = Served::new(fake());
    let count = |target: &str| served.tcp().get(target).body.lines().count();
    assert_eq!(count("/api/v1/connections"), 250);
    assert_eq!(count("/api/v1/connections?limit=101"), 101);
    assert_eq!(count("/api/v1/connections?limit=0"), 0);
    assert_eq!(count("/api/v1/connections?limit=1000"), 250);
    let served = Served::new(fake_of(0));
    assert_eq!(served.tcp().get("/api/v1/connections").body, "");
}

#[test]
fn who_takes_nothing_is_asked_for_nothing_and_is_given_up() {
    let served = Served::new(fake_of(10_000_000));
    let mut stuck = served.unix();
    stuck.send("GET /api/v1/connections HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let began = Instant::now();
    let pieces = || served.fake.pieces.load(Ordering::Relaxed);
    while pieces() == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(500));
    let before = pieces();
    assert!(before < 200, "{before} pieces were asked for, and none was taken");
    // Others do not feel it.
    let asked = Instant::now();
    assert_eq!(served.tcp().get("/healthz").status, 200);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    thread::sleep(Duration::from_secs(16).saturating_sub(began.elapsed()));
    assert_eq!(pieces(), before);
    // What lies in the kernel comes, and then the end, long before all of it.
    let bytes = stuck.drain();
    assert!(bytes < 4 << 20, "{bytes} bytes came after all");
}

#[test]
fn too_many_walks_at_a_time_are_refused_for_now() {
    let served = Served::new(fake_of(10_000_000));
    let walk = "GET /api/v1/connections HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut walks: Vec<_> = (0..8).map(|_| served.unix()).collect();
    for wire in &mut walks {
        wire.send(walk);
    }
    while served.fake.pieces.load(Ordering::Relaxed) < 8 {
        thread::sleep(Duration::from_millis(5));
    }
    let answer = served.unix().get("/api/v1/connections");
    assert!(answer.refusal().starts_with("503 Busy"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    let change = served.unix().json("POST", "/api/v1/reload", "");
    assert_eq!((change.status, served.fake.changes()), (503, Vec::new()));
    drop(walks);
    let began = Instant::now();
    while served.unix().get("/api/v1/connections?limit=1").status == 503 {
        assert!(began.elapsed() < Duration::from_secs(20), "walks go on without a client");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn clients_that_rest_make_room_at_once() {
    let served = Served::new(fake());
    let mut resting: Vec<_> = (0..MOST_CLIENTS).map(|_| served.tcp()).collect();
    for wire in &mut resting {
        assert_eq!(wire.get("/healthz").status, 200);
    }
    let began = Instant::now();
    assert_eq!(served.tcp().get("/healthz").status, 200);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(resting.iter_mut().all(|wire| wire.drain() == 0));
}

#[test]
fn clients_that_say_nothing_make_room_soon_and_never_keep_the_control_socket() {
    let served = Served::new(fake());
    let silent: Vec<_> = (0..2 * MOST_CLIENTS).map(|_| served.tcp()).collect();
    let began = Instant::now();
    assert_eq!(served.unix().get("/healthz").status, 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(served.tcp().get("/healthz").status, 200);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn a_connection_is_kept_for_many_requests_but_not_for_ever() {
    let served = Served::new(fake());
    let mut wire = served.tcp();
    let kept = (0..2_000).take_while(|_| wire.get("/healthz").header("connection") != "close").count();
    assert_eq!(kept, 999);
    assert_eq!(wire.drain(), 0);
}

#[test]
fn a_storm_of_scrapes_asks_once_a_second() {
    let served = Served::new(fake());
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut wire = served.tcp();
                for _ in 0..50 {
                    assert_eq!(wire.get("/metrics").status, 200);
                }
            });
        }
    });
    let states = served.fake.states.load(Ordering::Relaxed);
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(states <= seconds + 1, "{states} in {seconds} s");
}

#[test]
fn a_change_is_carried_through_when_its_client_leaves() {
    let mut slow = fake();
    slow.change_takes = Duration::from_millis(300);
    let served = Served::new(slow);
    let mut wire = served.unix();
    wire.send("POST /api/v1/reload HTTP/1.1\r\nhost: localhost\r\n\r\n");
    thread::sleep(Duration::from_millis(100));
    drop(wire);
    let began = Instant::now();
    while served.fake.changes().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10), "it was left half done");
        thread::sleep(Duration::from_millis(10));
    }
}
