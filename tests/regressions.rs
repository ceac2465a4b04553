//! How proxies have gone wrong, and that this one does not: one test for each trap of `docs/TRAPS.md` that needs
//! the running program and is not covered elsewhere. The numbers are those of the table.
//!
//! | # | trap | held to by |
//! |---|---|---|
//! | 1 | a short read is taken for "drained" while a FIN waits | `data_and_fin_in_one_segment`, `answer_and_fin_in_one_segment` |
//! | 2 | RDHUP taken for "closed both ways" | `server_answers_1_mib_after_the_client_half_closed`, `client_sends_1_mib_after_the_server_half_closed` |
//! | 3 | a slot is used again within a batch of events | `a_key_dies_with_its_value_although_the_slot_lives_on`, `many_connections_at_once_carry_their_own_bytes` |
//! | 4 | two keys for one session | `tokens_carry_key_and_side` |
//! | 6 | out of descriptors: spinning, or deaf | `out_of_descriptors`, `session_that_ends_gives_its_descriptors_to_a_client` |
//! | 7 | a storm of new connections starves the old | here |
//! | 8 | a dead connection in the backlog stops the listener | here |
//! | 9 | workers share a listener, or a socket | here |
//! | 10 | a check or a second start resets who waits in the backlog | here, `clients_in_the_backlog_are_served_at_term` |
//! | 12 | bytes are lost that come together with a FIN | `question_and_fin_before_the_server_accepts` |
//! | 13 | a reset is passed on as a FIN | `server_resets_after_64_kib` and those around it |
//! | 14 | a close with input unread cuts off the reply | `server_answers_and_closes_with_input_unread` |
//! | 15 | half-closed for ever | `silent_server_after_the_clients_fin_is_given_up`, `silent_client_after_the_servers_fin_is_given_up` |
//! | 16 | a full pipe is taken for an empty socket | here, `a_pipe_is_full_with_small_segments` |
//! | 17 | a pipe holds no more than its size | `stuck_readers_of_spliced_bulk` |
//! | 18 | what cannot be spliced; pipes that are too small, or not to be had | `what_a_splice_says_is_understood`, `a_pipe_that_would_be_too_large_becomes_a_smaller_one`, `without_descriptors_bulk_is_copied` |
//! | 26 | no free local port | here |
//! | 27 | any event after connect is success; retries without end | `refused_server_is_skipped`, `all_servers_refuse`, `no_server_answers` |
//! | 28 | a retry after bytes were sent | here |
//! | 30 | what came before the first event is not read | `client_sends_before_the_server_accepts` |
//! | 31 | the budget is spent and the edge used up | here |
//! | 32 | a busy loop beside a full buffer or a half-closed peer | here, `stuck_server`, `stuck_client` |
//! | 33 | timers: overflow, truncation to nothing | here, `keys_come_out_in_order_and_never_early` |
//! | 34 | an old deadline ends a session that has moved on | `trickle_up_is_not_idle`, `a_trickle_keeps_it_alive` |
//! | 41 | counts drift on error paths | here |
//! | 42 | the capacity of buffers melts | `a_buffer_that_was_advanced_comes_back_whole` |
//! | 43 | a read stops at an urgent byte | `urgent_byte_stays_in_the_stream`, `urgent_byte_comes_last` |
//! | 44 | a timeout for unacknowledged bytes kills a slow reader | here |
//! | 46 | bytes that were read find no buffer | `more_stuck_readers_than_the_budget_has_buffers` |

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use socket2::{Domain, SockRef, Socket, Type};
use support::gate::{Access, Config, Gate, refusal};
use support::peer::{End, Peer, got};
use support::process::{assert_rests, descriptors, pipe_ends, watched};
use support::servers::{Refusing, Server};
use support::stage::{Stage, at_once};

const ENGINE: &str = "mio";
const MOMENT: Duration = Duration::from_millis(200);

/// Four hundred clients come at once, and bytes of a connection that is there, so many that they take some
/// turns of the loop. They must not wait until all clients are taken care of.
#[test]
fn trap_07_accept_storm_starves_nobody() {
    const STORM: usize = 400;
    let opened_meanwhile = || {
        let (stage, gate) = Stage::through(Config::new(ENGINE).process("buffer_size = \"4KiB\""));
        let [mut client, mut server] = stage.pair();
        client.send(1);
        server.receive(1);
        let base = descriptors(gate.pid());
        gate.signal(Signal::STOP);
        let storm: Vec<TcpStream> = (0..STORM).map(|_| TcpStream::connect(gate.address()).unwrap()).collect();
        client.send(150_000);
        gate.signal(Signal::CONT);
        server.receive(150_000);
        gate.signal(Signal::STOP);
        let opened = descriptors(gate.pid()) - base;
        drop(storm);
        opened
    };
    // The machine may be busy with something else just then, but not three times.
    let opened: Vec<usize> = (0..3).map(|_| opened_meanwhile()).collect();
    println!("sockets opened for new clients before the bytes went through: {opened:?} of {}", 2 * STORM);
    assert!(opened.iter().any(|opened| *opened < 2 * STORM * 3 / 4), "{opened:?}");
}

#[test]
fn trap_08_dead_clients_in_the_backlog_are_passed_over() {
    let server = Server::echo();
    let gate = Gate::start(&Config::new(ENGINE).server(server.address()));
    gate.signal(Signal::STOP);
    for _ in 0..20 {
        gate.connect().abort();
    }
    let mut living = gate.connect();
    gate.signal(Signal::CONT);
    living.expect_echo();
    living.exchange(1_000, 1_000);
    assert_eq!(living.leave(), got(1_000, End::Fin));
    gate.echo(10);
    let complaints: Vec<_> =
        gate.log_lines().into_iter().filter(|line| line.contains("level=error")).collect();
    assert_eq!(complaints, [] as [String; 0]);
}

/// Each worker waits for a listener of its own, and each connection is watched by one worker.
#[test]
fn trap_09_workers_share_no_socket() {
    const WORKERS: usize = 3;
    let server = Server::echo();
    let gate = Gate::start(&Config::new(ENGINE).workers(3).server(server.address()));
    let resting = watched(gate.pid());
    assert_eq!(resting.len(), WORKERS, "one selector for each worker: {resting:?}");
    // A listener and a waker.
    assert!(resting.values().all(|sockets| sockets.len() == 2), "{resting:?}");

    let clients: Vec<Peer> = (0..30).map(|_| gate.connect().echoed()).collect();
    let mut sockets: Vec<u64> = watched(gate.pid()).into_values().flatten().collect();
    assert_eq!(sockets.len(), 2 * WORKERS + 2 * clients.len());
    sockets.sort_unstable();
    sockets.dedup();
    assert_eq!(sockets.len(), 2 * WORKERS + 2 * clients.len(), "a socket is watched twice");
}

#[test]
fn trap_10_check_and_a_second_start_reset_nobody() {
    let server = Server::echo();
    let gate = Gate::start(&Config::new(ENGINE).workers(2).server(server.address()));
    gate.signal(Signal::STOP);
    let mut clients: Vec<Peer> = (0..20).map(|_| gate.connect()).collect();

    let address: &'static str = gate.address().to_string().leak();
    let again = Config::new(ENGINE).workers(2).bind(address).server(server.address());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.toml");
    std::fs::write(&file, again.to_string()).unwrap();
    let check =
        Command::new(env!("CARGO_BIN_EXE_tidegate")).args(["check", "-c"]).arg(&file).output().unwrap();
    assert!(check.status.success(), "{check:?}");
    let (status, said) = refusal("true", &again);
    assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
    assert!(said.contains("in use by tidegate"), "{said}");

    gate.signal(Signal::CONT);
    for client in &mut clients {
        client.expect_echo();
        client.exchange(100, 100);
    }
    clients.into_iter().for_each(|client| assert_eq!(client.leave(), got(100, End::Fin)));
}

/// A pipe is full with 256 segments, however small, while its target takes nothing and more segments wait in the
/// socket. Whoever believes then that the socket is empty never reads them: the client has nothing to add.
#[test]
fn trap_16_full_pipe_is_no_empty_socket() {
    const PIECES: u64 = 4_000;
    const PIECE: u64 = 100;
    const BULK: u64 = 8 << 20;
    let (stage, gate) = Stage::through(Config::new(ENGINE).process("splice = \"auto\""));
    let [mut client, mut server] = stage.pair();
    server.socket().set_recv_buffer_size(64 << 10).unwrap();
    for socket in connections_of(gate.pid()) {
        if socket.peer_addr().unwrap().as_socket() == Some(server.address()) {
            socket.set_send_buffer_size(64 << 10).unwrap();
        }
    }
    let before = pipe_ends(gate.pid());
    at_once(|| server.receive(BULK), || client.send(BULK));
    assert!(pipe_ends(gate.pid()) > before, "nothing was spliced");
    // The kernel joins segments that are neighbours in its memory, and those of two connections are not.
    let [mut other, _other_server] = stage.pair();
    gate.signal(Signal::STOP);
    for _ in 0..PIECES {
        client.send(PIECE);
        other.send(PIECE);
    }
    gate.signal(Signal::CONT);
    thread::sleep(MOMENT);
    server.receive(PIECES * PIECE);
    client.finish();
    server.receive_to_end();
    assert_eq!(server.leave(), got(BULK + PIECES * PIECE, End::Fin));
}

/// Four local ports, all taken towards the first server: that is not its fault, and the second one serves. With
/// both out of reach the client hears so, and is served as soon as a port is free.
#[test]
fn trap_26_no_local_port_is_no_server_s_fault() {
    const INSIDE: &str = "TIDEGATE_INSIDE_NAMESPACE";
    const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    if std::env::var_os(INSIDE).is_none() {
        // A network of its own, in which ports can be made few without harm to anybody.
        let script = "ip link set lo up && [ -w \"$0\" ] || exit 77; exec \"$@\"";
        let status = Command::new("unshare")
            .args(["-r", "-n", "sh", "-c", script, PORTS])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "trap_26_no_local_port_is_no_server_s_fault", "--nocapture"])
            .env(INSIDE, "1")
            .status();
        let possible = status.as_ref().is_ok_and(|status| !matches!(status.code(), Some(1 | 77)));
        let required = std::env::var_os("TIDEGATE_REQUIRE_TOOLS").is_some();
        assert!(possible || !required, "no network of its own can be had here: {status:?}");
        match possible {
            true => assert!(status.is_ok_and(|status| status.success()), "inside"),
            false => println!("skipped: no network of its own can be had here: {status:?}"),
        }
        return;
    }
    let servers = [Server::echo(), Server::echo()];
    let config = Config::new(ENGINE).server(servers[0].address()).server(servers[1].address());
    let gate = Gate::start(&config.table("defaults.retry", "tries = 3\nsame_server_delay = \"50ms\""));
    std::fs::write(PORTS, "40000 40003").expect("this network is ours");
    let take_all = |server: &Server| -> Vec<TcpStream> {
        (0..4).map(|_| TcpStream::connect(server.address()).expect("four ports are free")).collect()
    };

    let first = take_all(&servers[0]);
    for number in 0..6 {
        let access = served_by(&gate, 50_000 + number);
        assert_eq!(access.server.as_deref(), Some("s1"), "{access:?}");
        assert!((1..=2).contains(&access.tries), "{access:?}");
    }
    let second = take_all(&servers[1]);
    let mut client = from_port(&gate, 50_010);
    assert_eq!(client.receive_to_end(), End::Reset);
    let access = gate.access(client.address());
    assert_eq!(
        (access.cause.as_str(), access.closer.as_str(), access.hap_ts.as_str()),
        ("no_source_port", "proxy", "RC")
    );
    for taken in [first, second].into_iter().flatten() {
        SockRef::from(&taken).set_linger(Some(Duration::ZERO)).unwrap();
    }
    served_by(&gate, 50_011);
}

/// What is told of a client that was served. It resets its connection, which frees the local port at once.
fn served_by(gate: &Gate, port: u16) -> Access {
    let mut client = from_port(gate, port);
    client.expect_echo();
    client.send(10);
    client.receive(10);
    let address = client.address();
    client.abort();
    gate.access(address)
}

/// A client that takes none of the few ports.
fn from_port(gate: &Gate, port: u16) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.connect(&gate.address().into()).expect("the listener takes connections");
    Peer::client(socket.into())
}

/// A server that has read something is not replaced by another, whether the client may send more or not.
#[test]
fn trap_28_no_retry_after_bytes_were_sent() {
    for client_finishes in [false, true] {
        let breaking = Server::start(|mut peer| {
            peer.receive(1);
            peer.abort();
        });
        let other = Server::echo();
        let gate = Gate::start(&Config::new(ENGINE).server(breaking.address()).server(other.address()));
        for expected in [End::Reset, End::Fin].repeat(5) {
            let mut client = gate.connect();
            client.expect_echo();
            if client_finishes || expected == End::Fin {
                client.send_with_fin(100);
            } else {
                client.send(100);
            }
            assert_eq!(client.receive_to_end(), expected);
        }
        assert_eq!((breaking.accepted(), other.accepted()), (5, 5));
    }
}

/// Everything is there before the first look: one event, and more behind it than a turn's budget of reads takes.
#[test]
fn trap_31_spent_budget_is_taken_up_again() {
    let (stage, gate) = Stage::through(Config::new(ENGINE).process("buffer_size = \"4KiB\""));
    gate.signal(Signal::STOP);
    let mut client = stage.connect();
    client.send(50_000);
    client.wait_until_delivered();
    gate.signal(Signal::CONT);
    let mut server = stage.accept();
    server.receive(50_000);
    server.send(50_000);
    client.receive(50_000);
    client.finish();
    server.receive_to_end();
    server.finish();
    client.receive_to_end();
    assert_eq!([client.leave(), server.leave()], [got(50_000, End::Fin), got(50_000, End::Fin)]);
    assert_eq!(gate.access(stage.client()).cause, "done");
}

/// Whatever a connection waits for, it waits asleep.
#[test]
fn trap_32_waiting_costs_no_cpu() {
    type Scene = (&'static str, fn(&mut Peer, &mut Peer));
    let scenes: [Scene; 6] = [
        ("the client has finished", |client, server| {
            client.finish();
            server.receive_to_end();
        }),
        ("the server has finished", |client, server| {
            server.finish();
            client.receive_to_end();
        }),
        ("the client does not read", |_, server| {
            server.send_until_stuck(64 << 20);
        }),
        ("the client has finished and does not read", |client, server| {
            client.finish();
            server.receive_to_end();
            server.send_until_stuck(64 << 20);
        }),
        ("the server has finished and does not read", |client, server| {
            server.finish();
            client.receive_to_end();
            client.send_until_stuck(64 << 20);
        }),
        ("an urgent byte was sent", |client, server| {
            server.socket().set_out_of_band_inline(true).unwrap();
            assert_eq!(client.socket().send_out_of_band(b"U").unwrap(), 1);
            server.receive_text(b"U");
        }),
    ];
    for (name, play) in scenes {
        let (stage, gate) = Stage::through(Config::new(ENGINE));
        let [mut client, mut server] = stage.pair();
        play(&mut client, &mut server);
        assert_rests(gate.pid(), Duration::from_secs(1), 3, name);
    }
}

/// The same for a connection whose client is gone, while what it sent waits for a server that does not read.
#[test]
fn trap_32_reset_that_waits_costs_no_cpu() {
    let (stage, gate) = Stage::through(Config::new(ENGINE));
    let [mut client, server] = stage.pair();
    client.send_until_stuck(64 << 20);
    client.abort();
    thread::sleep(MOMENT);
    assert_rests(gate.pid(), Duration::from_secs(1), 3, "while a reset waits");
    drop(server);
}

/// The longest times that can be written neither overflow into no time at all nor into an endless loop.
#[test]
fn trap_33_longest_timeouts_are_long() {
    let longest = "connect = \"8760h\"\nconnect_total = \"8760h\"\nidle = \"8760h\"\nhalf_close = \"8760h\"";
    let (stage, gate) = Stage::through(Config::new(ENGINE).timeouts(longest));
    let [mut client, mut server] = stage.pair();
    client.send(10);
    client.finish();
    server.receive(10);
    assert_rests(gate.pid(), Duration::from_secs(1), 1, "while times run");
    server.send(10);
    server.finish();
    client.receive_to_end();
    assert_eq!(client.leave(), got(10, End::Fin));
    assert_eq!(gate.access(stage.client()).cause, "done");
}

/// The shortest ones end what they limit, and not the worker.
#[test]
fn trap_33_shortest_timeouts_are_times() {
    let shortest = "idle = \"1ms\"\nhalf_close = \"1ms\"";
    let (stage, gate) = Stage::through(Config::new(ENGINE).timeouts(shortest));
    let [mut client, mut server] = stage.pair();
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(server.receive_to_end(), End::Fin);
    assert_eq!(gate.access(stage.client()).cause, "idle_timeout");
    assert_rests(gate.pid(), Duration::from_secs(1), 1, "after the last connection");
}

/// After forty clients that were let in and got nothing, the limit lets in as many as before, and not one more.
#[test]
fn trap_41_failures_leave_the_limit_alone() {
    const MOST: usize = 4;
    let refusing = Refusing::new();
    let config = Config::new(ENGINE)
        .process("maxconn = 4")
        .listener("at_maxconn = \"reject\"")
        .server(refusing.address())
        .table("defaults.retry", "tries = 2\nsame_server_delay = \"10ms\"");
    let gate = Gate::start(&config);
    // Every other one leaves at once, perhaps before it is let in; the one behind it ends after it.
    for number in 0..41 {
        let mut client = gate.connect();
        if number % 2 == 1 {
            client.abort();
            continue;
        }
        let address = client.address();
        assert_eq!(client.receive_to_end(), End::Reset);
        assert_eq!(gate.access(address).cause, "connect_refused");
    }
    let _server = Server::start_on(refusing.listen(), |mut peer| {
        peer.echo();
    });
    for _ in 0..3 {
        let clients: Vec<Peer> = (0..MOST).map(|_| gate.connect().echoed()).collect();
        let rejected = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        rejected.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        // The reset may be faster than the end of this call.
        let _ = rejected.connect(&gate.address().into());
        let address = rejected.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(gate.access(address).cause, "maxconn");
        for client in clients {
            let address = client.address();
            client.abort();
            gate.access(address);
        }
    }
}

/// No socket has a timeout for unacknowledged bytes, which would cut a reader that pauses; each has the options
/// that keep small messages fast, urgent bytes in their place, and find dead peers.
#[test]
fn trap_44_sockets_have_the_options_they_need() {
    let server = Server::echo();
    let gate = Gate::start(&Config::new(ENGINE).server(server.address()));
    let _client = gate.connect().echoed();
    let mut checked = 0;
    for socket in connections_of(gate.pid()) {
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.out_of_band_inline().unwrap());
        assert!(socket.keepalive().unwrap());
        // In the last quarter of what is configured.
        let idle = socket.tcp_keepalive_time().unwrap().as_secs();
        assert!((45..=60).contains(&idle), "{idle}");
        checked += 1;
    }
    assert_eq!(checked, 2, "the client's and the server's");
}

/// Our own descriptors for the connected sockets of a process.
fn connections_of(pid: u32) -> Vec<Socket> {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap();
    descriptors
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|it| it.to_string_lossy().starts_with("socket:"))
        })
        .map(|entry| entry.file_name().to_str().unwrap().parse().unwrap())
        .filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok())
        .map(Socket::from)
        .filter(|socket| socket.peer_addr().is_ok_and(|peer| peer.is_ipv4()))
        .collect()
}
