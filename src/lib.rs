//! tidegate: a TCP load balancer.
//!
//! The rooms. Arrows point one way only: a room uses the rooms below it in this list, never those above
//! (`tests/tidy.rs` sees to it).
//!
//! | room | what it does |
//! |---|---|
//! | [`cli`] | the commands: `run`, `check`, `ctl`, `conns`, `top`, `engines`, `demo`, `lab`, and more |
//! | [`top`] | the state of a running process in a terminal |
//! | `demo` | the main job on an embedded default, with back ends and a load of its own (feature `lab`) |
//! | `lab` | the same workloads over every engine and over others' proxies, and the report (feature `lab`, Linux) |
//! | [`process`] | start-up, signals, the end: what happens once in a process |
//! | [`explain`] | why a client gets the server that it gets |
//! | [`control`] | what a running process is asked: status, reload, drain, kill; what it asks: checks, names |
//! | [`worker`] | one share-nothing loop per CPU: table, timers, admission |
//! | [`logging`] | log lines and access records leave through here, never blocking a worker |
//! | [`engine`] | how the kernel is asked to move bytes |
//! | [`session`] | pure: accept, pick, dial and retry, relay, close |
//! | [`table`] | connections, by keys that are never used twice |
//! | [`snapshot`] | what workers read: immutable, with dense ids |
//! | [`admission`] | pure: who is let in, and how many |
//! | [`tally`] | what is counted for the whole process |
//! | [`balance`] | pure: which server is next |
//! | [`health`] | pure: what checks and failed connects make of a server |
//! | [`sys`] | the only room that talks to the operating system, and the only one with `unsafe` |
//! | [`config`] | `proxy.toml` as the user writes it, and every error in it at once |
//! | [`cause`] | why a connection ended |
//! | [`path`] | pure: what the network was like on the way to a peer, and what that means in words |
//! | [`relay`] | pure: the two directions of a connection, counted |
//! | [`proxy_header`] | pure: headers of the PROXY protocol, read and written |
//! | [`client_hello`] | pure: what a TLS client says first: names and protocols |
//!
//! `docs/ARCHITECTURE.md` in the repository tells the reasons.

#[macro_use]
#[doc(hidden)]
pub mod mutant;

pub mod admission;
pub mod balance;
pub mod cause;
pub mod cli;
pub mod client_hello;
pub mod config;
pub mod control;
#[cfg(feature = "lab")]
pub mod demo;
pub mod engine;
pub mod explain;
pub mod health;
#[cfg(all(feature = "lab", target_os = "linux"))]
pub mod lab;
pub mod logging;
pub mod path;
pub mod process;
pub mod proxy_header;
pub mod relay;
mod say;
pub mod session;
pub mod snapshot;
pub mod sys;
pub mod table;
pub mod tally;
pub mod tick;
pub mod top;
pub mod worker;
