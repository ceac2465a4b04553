//! What is drawn, compared with pictures in text, and what keys do.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::Place;
use super::draw::draw;
use super::*;
use crate::config::ServerState;
use crate::control::model::{Bytes, SessionState};
use crate::tick::Tick;

fn status() -> Status {
    serde_json::from_str(include_str!("../../tests/support/status.json")).expect("it is a status")
}

/// One that was seen twice, a second apart.
fn app() -> App {
    let mut app = App::new();
    app.take_status(Tick(1000), Ok(status()));
    let mut next = status();
    next.uptime_s += 1;
    for (listener, pace) in next.listeners.iter_mut().zip([1, 2]) {
        listener.accepted += 40 * pace;
        listener.bytes.up += pace << 20;
        listener.bytes.down += pace << 23;
    }
    let beta = &mut next.pools[0].servers[1];
    *beta.attempts.get_mut("ok").unwrap() += 80;
    *beta.attempts.get_mut("refused").unwrap() += 3;
    beta.connect_seconds.buckets[1].1 += 80;
    beta.connect_seconds.count += 80;
    beta.bytes.down += 5 << 20;
    for (worker, busy) in next.workers.iter_mut().zip([0.1, 0.2, 0.4, 0.8]) {
        worker.turns += 1000;
        worker.cpu_seconds += busy;
        worker.answer_seconds.count += 1000;
        worker.answer_seconds.buckets[2].1 += 1000;
    }
    app.take_status(Tick(2000), Ok(next));
    app.now = Tick(2000);
    app
}

fn connection(number: u64) -> Connection {
    Connection {
        id: format!("{number:x}"),
        listener: "web".to_owned(),
        client: (number != 3).then(|| format!("10.20.0.{number}:4000{number}").parse().unwrap()),
        pool: "web".to_owned(),
        server: (number != 2).then(|| "beta".to_owned()),
        state: [
            SessionState::Relaying,
            SessionState::HalfClosed,
            SessionState::Connecting,
            SessionState::Closing,
        ][usize::try_from(number).unwrap() % 4],
        age_ms: number * 3_600_000,
        idle_ms: (number != 1).then_some(90_000 - number * 1000),
        bytes: Bytes { up: number * 1000, down: 1 << (10 * number) },
        client_path: None,
        server_path: None,
        worker: 0,
        engine: "mio".to_owned(),
    }
}

fn picture(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let lines = buffer
        .content
        .chunks(usize::from(width))
        .map(|line| line.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned() + "\n");
    lines.collect()
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            'v' => KeyCode::Down,
            letter => KeyCode::Char(letter),
        };
        app.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

/// The picture that is drawn must be the one that was looked at and found good.
#[track_caller]
fn assert_picture(got: &str, good: &str) {
    assert!(got == good, "the picture is now:\n{got}\nand was:\n{good}");
}

#[test]
fn everything_fits_into_80_by_24() {
    assert_picture(&picture(&mut app(), 80, 24), include_str!("pictures/overview-80x24.txt"));
}

#[test]
fn who_only_stands_in_is_no_server_like_the_others() {
    let mut next = status();
    for (server, state) in next.pools[0].servers.iter_mut().zip([ServerState::Ready, ServerState::Drain]) {
        (server.backup, server.state) = (true, state);
    }
    let mut app = app();
    app.take_status(Tick(3000), Ok(next));
    let drawn = picture(&mut app, 130, 28);
    let state = |name: &str| {
        let row = drawn.lines().find(|line| line.contains(name)).expect("it is drawn");
        ["backup", "drain"].map(|state| row.contains(state))
    };
    assert_eq!([state("web/alpha"), state("web/beta")], [[true, false], [false, true]], "{drawn}");
}

#[test]
fn a_large_terminal_shows_more() {
    assert_picture(&picture(&mut app(), 130, 28), include_str!("pictures/overview-130x28.txt"));
}

#[test]
fn live_connections_have_a_view_of_their_own() {
    let mut app = app();
    press(&mut app, "c");
    assert_eq!(app.wanted().connections, Some(Filter::default()));
    app.take_connections(Ok((1..=4).map(connection).collect()));
    press(&mut app, "s");
    assert_picture(&picture(&mut app, 80, 24), include_str!("pictures/connections-80x24.txt"));
    let ids = |app: &App| app.live().iter().map(|it| it.id.clone()).collect::<String>();
    assert_eq!(ids(&app), "2341", "the longest idle first; of the last nothing is known");
    press(&mut app, "ss");
    assert_eq!(ids(&app), "4321", "most down");
    press(&mut app, "c");
    assert_eq!((app.place, app.wanted().connections), (Place::Servers, None));
}

#[test]
fn every_size_is_drawn_and_too_small_ones_say_so() {
    for (width, height) in [(1, 1), (71, 24), (80, 12), (72, 13), (80, 13), (300, 100)] {
        let mut app = app();
        let fits = picture(&mut app, width, height).contains("web/alpha");
        assert_eq!(fits, width >= 72 && height >= 13, "{width} by {height}");
        press(&mut app, "?");
        picture(&mut app, width, height);
    }
    assert!(picture(&mut app(), 71, 24).starts_with("71 by 24 is too small: 80 by 24 is enough\n"));
}

#[test]
fn the_last_of_many_rows_can_be_reached() {
    let mut app = app();
    let mut many = status();
    many.pools[0].servers = (0..200)
        .map(|number| {
            let mut server = many.pools[0].servers[0].clone();
            server.name = format!("s{number}");
            server
        })
        .collect();
    app.take_status(Tick(3000), Ok(many));
    assert!(!picture(&mut app, 80, 24).contains("pg/pg2"));
    app.press(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
    assert!(picture(&mut app, 80, 24).contains("pg/pg2"));
    app.press(KeyEvent::new(KeyCode::PageUp, KeyModifiers::NONE));
    app.press(KeyEvent::new(KeyCode::Home, KeyModifiers::NONE));
    assert!(picture(&mut app, 80, 24).contains("web/s0"));
}

#[test]
fn what_somebody_should_know_stands_in_the_third_line() {
    let third = |app: &mut App| picture(app, 200, 24).lines().nth(2).unwrap().to_owned();
    let mut app = App::new();
    assert_eq!(third(&mut app), "asking the process");
    app.take_status(Tick(0), Err("no such file".to_owned()));
    app.take_status(Tick(5000), Err("connection refused".to_owned()));
    app.now = Tick(65_000);
    assert_eq!(third(&mut app), " no answer for 1m5s: connection refused");
    let mut slow = self::app();
    slow.now = Tick(7000);
    assert_eq!(third(&mut slow), " no answer for 5s: it is waited for");
    let mut bad = status();
    bad.closings.clear();
    bad.config.last_reload_successful = false;
    bad.config.last_reload_error = Some("proxy.toml:3: unknown key".to_owned());
    bad.config.confirm_within_s = Some(90);
    bad.pools[1].servers[0].weight = 0;
    app.take_status(Tick(65_000), Ok(bad));
    press(&mut app, "p");
    let line = third(&mut app);
    assert!(
        line.starts_with("paused; the last reload failed: proxy.toml:3: unknown key; the configuration"),
        "{line}"
    );
    assert!(
        line.contains("is taken back in 1m30s unless confirmed; no server of pg takes connections"),
        "{line}"
    );
}

#[test]
fn rates_need_two_looks_and_bear_a_restart() {
    let mut app = App::new();
    app.take_status(Tick(0), Ok(status()));
    assert!(picture(&mut app, 80, 24).contains("\nnew -  up -  down - "));
    let mut restarted = status();
    restarted.uptime_s = 1;
    restarted.listeners[0].accepted = 0;
    app.take_status(Tick(1000), Ok(restarted.clone()));
    assert!(picture(&mut app, 80, 24).contains("\nnew -  up -  down - "));
    restarted.listeners[0].accepted = 10;
    // Another one was removed and came back with the same name: its counter fell.
    restarted.listeners[1].accepted = 0;
    app.take_status(Tick(3000), Ok(restarted));
    let listeners: Vec<_> = app.listeners().iter().map(|(_, flow)| flow.new).collect();
    assert_eq!(listeners, [Some(5.0), None, Some(0.0)]);
}

#[test]
fn failures_are_those_of_the_last_minute() {
    let mut app = App::new();
    for second in 0..100 {
        let mut next = status();
        next.pools[0].servers[0].attempts.insert("timeout".to_owned(), second);
        next.uptime_s += second;
        app.take_status(Tick(second * 1000), Ok(next));
    }
    assert_eq!(app.servers()[0].failed, 60);
}

#[test]
fn keys_choose_tables_sort_filter_and_pause() {
    let mut app = app();
    let place = |app: &mut App, key| {
        app.press(KeyEvent::new(key, KeyModifiers::NONE));
        app.place
    };
    assert_eq!(place(&mut app, KeyCode::Tab), Place::Workers);
    assert_eq!(place(&mut app, KeyCode::Right), Place::Listeners);
    assert_eq!(place(&mut app, KeyCode::Left), Place::Workers);
    assert_eq!(place(&mut app, KeyCode::BackTab), Place::Servers);

    let names =
        |app: &App| app.servers().iter().map(|it| it.server.name.clone()).collect::<Vec<_>>().join(" ");
    press(&mut app, "s");
    assert_eq!(names(&app), "beta pg1 alpha pg2 pg3 gamma");
    press(&mut app, "/PG/");
    assert!(
        picture(&mut app, 80, 24)
            .ends_with("filter: PG/_  a part of a name; enter applies it, esc leaves it\n")
    );
    press(&mut app, "\n");
    assert_eq!(names(&app), "pg1 pg2 pg3");
    press(&mut app, "/\x08\x08\x08nothing\n");
    assert!(picture(&mut app, 80, 24).contains("No name has this in it."));
    press(&mut app, "/x\x1b");
    assert_eq!(app.names, "nothing");

    press(&mut app, "p");
    assert!(app.wanted().paused);
    press(&mut app, "?q");
    assert!(!app.done, "the key has ended the help and no more");
    press(&mut app, "q");
    assert!(app.done);
}

#[test]
fn control_c_quits_from_anywhere() {
    for before in ["", "?", "/", "c", "c/"] {
        let mut app = app();
        press(&mut app, before);
        app.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(app.done, "{before:?}");
    }
}

#[test]
fn enter_shows_the_connections_of_what_is_selected() {
    let mut app = app();
    picture(&mut app, 80, 24);
    press(&mut app, "v\n");
    let server = Filter { server: Some("web/beta".to_owned()), ..Filter::default() };
    assert_eq!(app.wanted().connections, Some(server));
    press(&mut app, "/\x08\x08\x08\x08alpha idle_for=soon\n");
    let drawn = picture(&mut app, 130, 24);
    assert!(
        drawn.ends_with(
            "filter: server=web/alpha idle_for=soon_  `idle_for`: expected a duration such as \"60s\" or \"1h\", found \"soon\"\n"
        )
    );
    press(&mut app, "\x08\x08\x08\x085s\n");
    let wanted =
        Filter { server: Some("web/alpha".to_owned()), idle_for: Some("5s".to_owned()), ..Filter::default() };
    assert_eq!(app.wanted().connections, Some(wanted));
    app.take_connections(Err("source: no such network".to_owned()));
    assert!(picture(&mut app, 80, 24).contains("source: no such network"));
    press(&mut app, "\x1b");
    assert_eq!(app.place, Place::Servers);
    // The filter stays for the next time.
    press(&mut app, "c");
    assert_eq!(app.which, "server=web/alpha idle_for=5s");
}

#[test]
fn what_comes_late_is_left_out() {
    let mut app = app();
    press(&mut app, "c");
    let found = |number| Ok(vec![connection(number)]);
    let other = Filter { pool: Some("pg".to_owned()), ..Filter::default() };
    take(&mut app, News::Connections(other, found(1)));
    assert!(app.connections.is_empty());
    take(&mut app, News::Connections(Filter::default(), found(2)));
    assert_eq!(app.connections, [connection(2)]);
    press(&mut app, "p");
    take(&mut app, News::Status(Err(anyhow::anyhow!("gone"))));
    assert!(app.silence().is_none());
}

#[test]
fn the_process_is_asked_for_what_is_wanted_until_nobody_listens() {
    let ((ask, asked), (tell, told)) = (mpsc::channel(), mpsc::channel());
    let filter = Filter { pool: Some("pg".to_owned()), ..Filter::default() };
    ask.send(Wanted { paused: false, connections: Some(filter.clone()) }).unwrap();
    ask.send(Wanted { paused: true, connections: None }).unwrap();
    let asking = thread::spawn(move || {
        let found = |filter: &Filter, most| {
            assert_eq!((filter.pool.as_deref(), most), (Some("pg"), CONNECTIONS_MAX + 1));
            Ok(vec![connection(1)])
        };
        keep_asking(&asked, &tell, || Ok(status()), found);
    });
    assert!(matches!(told.recv(), Ok(News::Status(Ok(_)))));
    assert!(matches!(told.recv(), Ok(News::Status(Ok(_)))));
    let Ok(News::Connections(of, Ok(found))) = told.recv() else { panic!("connections were asked for") };
    assert_eq!((of, found), (filter, vec![connection(1)]));
    assert!(told.recv_timeout(EVERY * 2).is_err(), "it is paused");
    drop(ask);
    asking.join().unwrap();
}
