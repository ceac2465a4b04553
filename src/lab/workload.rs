//! The workloads: what clients do, how many there are, and by what each is judged.

use serde::{Deserialize, Serialize};

/// What one unit of a workload's work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 10⁹ bytes that were moved, both directions added up.
    Gigabyte,
    /// A request and its reply: two messages.
    Request,
    /// A connection from its start to its end.
    Connection,
    /// A connection that does nothing.
    IdleConnection,
}

impl Unit {
    /// Its name after a number or a slash: `µs/request`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gigabyte => "GB",
            Self::Request => "request",
            Self::Connection => "connection",
            Self::IdleConnection => "idle connection",
        }
    }

    /// What system calls are counted for: its name, and how many of them a unit has.
    #[must_use]
    pub fn message(self) -> (&'static str, f64) {
        match self {
            Self::Gigabyte => ("MB", 1e3),
            Self::Request => ("message", 2.0),
            Self::Connection => ("connection", 1.0),
            Self::IdleConnection => ("idle connection", 1.0),
        }
    }
}

/// What the clients and the back ends of a workload do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// So many bytes each way through an echo, in writes of random sizes, then a half-close; every byte is compared.
    Integrity,
    /// Streams from clients to back ends.
    Up,
    /// Streams both ways at once.
    Duplex,
    /// Ask 100 bytes, wait for the whole reply, ask again.
    PingPong,
    /// Connect, ask, be answered with 1 KiB, close; again.
    Churn,
    /// Connect, be answered once, and stay.
    Idle,
    /// Connect, and wait for a greeting; one client after the other.
    FirstByte,
    /// Back ends send as much as goes, clients read slowly.
    SlowReaders,
    /// Requests at fixed times, whether or not the ones before were answered.
    Rate,
}

/// One workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What is done.
    pub work: Work,
    /// Connections at a time.
    pub connections: u32,
    /// Bytes of a reply, where there are replies.
    pub reply: u32,
    /// What its costs are counted for.
    pub unit: Unit,
    /// Part of `--quick`.
    pub quick: bool,
}

/// Bytes of a request, and of most replies.
pub const MESSAGE: u32 = 100;

const fn workload(
    name: &'static str,
    title: &'static str,
    work: Work,
    connections: u32,
    unit: Unit,
) -> Workload {
    Workload { name, title, work, connections, reply: MESSAGE, unit, quick: false }
}

impl Workload {
    const fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    const fn reply(self, reply: u32) -> Self {
        Self { reply, ..self }
    }
}

/// All of them, in the order in which they are run and shown.
pub const WORKLOADS: [Workload; 14] = [
    workload("integrity", "every byte compared, with half-close", Work::Integrity, 32, Unit::Gigabyte)
        .quick(),
    workload("pp1", "ping-pong, 1 connection", Work::PingPong, 1, Unit::Request).quick(),
    workload("pp64", "ping-pong, 64 connections", Work::PingPong, 64, Unit::Request).quick(),
    workload("pp1000", "ping-pong, 1,000 connections", Work::PingPong, 1_000, Unit::Request),
    workload("pp64-8k", "ping-pong, 64 connections, replies of 8 KiB", Work::PingPong, 64, Unit::Request)
        .reply(8_192),
    workload("bulk1", "1 stream", Work::Up, 1, Unit::Gigabyte),
    workload("bulk16", "16 streams", Work::Up, 16, Unit::Gigabyte).quick(),
    workload("duplex1", "1 stream both ways", Work::Duplex, 1, Unit::Gigabyte),
    workload("duplex16", "16 streams both ways", Work::Duplex, 16, Unit::Gigabyte),
    workload("churn", "short connections, 64 at a time", Work::Churn, 64, Unit::Connection)
        .reply(1_024)
        .quick(),
    workload("first-byte", "connect and wait for a greeting", Work::FirstByte, 1, Unit::Connection),
    workload("slow-readers", "64 clients that read 256 KiB/s each", Work::SlowReaders, 64, Unit::Gigabyte),
    workload("idle", "9,000 idle connections", Work::Idle, 9_000, Unit::IdleConnection),
    workload("rate", "64 connections, requests at a fixed rate", Work::Rate, 64, Unit::Request),
];

/// The workload of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}
