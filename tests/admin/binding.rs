//! Listening: all or nothing, and with the permissions that were asked for.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;

use tempfile::{TempDir, tempdir};
use tidegate::config::Admin;
use tidegate::control::serve::{Bound, token_fault};

use crate::support::PATIENCE;

fn admin(directory: &TempDir) -> Admin {
    Admin {
        socket: Some(directory.path().join("admin.sock")),
        http: Some("127.0.0.1:0".parse().unwrap()),
        ..Admin::default()
    }
}

fn refusal(admin: &Admin) -> String {
    Bound::new(admin).expect_err("it cannot be had").to_string()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_socket_has_its_permissions_and_goes_with_its_owner() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    for wanted in [0o600, 0o660, 0o666] {
        let bound = Bound::new(&Admin { socket_mode: wanted, ..admin(&directory) }).unwrap();
        assert_eq!(mode(&path), wanted);
        assert!(bound.http().is_some());
        drop(bound);
        assert!(!path.exists());
    }
}

#[test]
fn a_file_that_was_left_is_replaced_and_a_directory_is_made() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Bound::new(&admin(&directory)).unwrap());
    let path = directory.path().join("new/admin.sock");
    let bound = Bound::new(&Admin { socket: Some(path.clone()), ..admin(&directory) }).unwrap();
    assert!(path.exists());
    drop(bound);
    let path = directory.path().join("two/new/admin.sock");
    let said = refusal(&Admin { socket: Some(path), ..admin(&directory) });
    assert!(said.contains("its directory does not exist"), "{said}");
}

#[test]
fn everything_that_hinders_is_told_and_nothing_is_left_bound() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let _live = UnixListener::bind(&path).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = Admin {
        http: Some(port.local_addr().unwrap()),
        http_token_file: Some(directory.path().join("none")),
        ..admin(&directory)
    };
    let said = refusal(&taken);
    for part in
        ["cannot listen on unix:", "cannot listen on 127.0.0.1:", "in use by", "no token in", "= help:"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(path.exists(), "the file of who listens is gone");

    let free = directory.path().join("free.sock");
    refusal(&Admin { socket: Some(free.clone()), ..taken });
    assert!(!free.exists());
}

#[test]
fn a_token_is_one_long_word() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("token");
    let with = |text: &str| {
        fs::write(&file, text).unwrap();
        Bound::new(&Admin { http_token_file: Some(file.clone()), ..admin(&directory) })
    };
    for wrong in ["", "\n", "short\n", "two words are not one\n"] {
        let said = with(wrong).expect_err(wrong).to_string();
        assert!(said.contains("16 or more") && said.contains("/dev/urandom"), "{said}");
    }
    assert!(with("0123456789abcdef\n").is_ok());
}

/// Neither a start nor a check waits for who never writes it.
#[test]
fn a_token_is_in_a_regular_file() {
    let directory = tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let admin = Admin { http_token_file: Some(fifo), ..admin(&directory) };
    let (tell, told) = channel();
    thread::spawn(move || {
        let checked = token_fault(&admin).expect("it is none").to_string();
        let _ = tell.send([checked, refusal(&admin)]);
    });
    for said in told.recv_timeout(PATIENCE).expect("it waits for ever") {
        assert!(said.contains("it is a FIFO") && said.contains("= help:"), "{said}");
    }
}
