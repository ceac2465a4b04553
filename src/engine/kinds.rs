//! What is known of each engine, and whether it can run here.

use std::fmt;
use std::io;

use serde::Serialize;

use super::ByMio;
#[cfg(target_os = "linux")]
use super::uring::Kernel;
#[cfg(target_os = "linux")]
use super::{ByAio, ByEpoll, ByPoll, BySelect, BySigio};
use crate::config::{EngineKind, Uring};

/// How a program and the kernel share the work of I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// The kernel says when a call would not block; the program makes it.
    Readiness,
    /// The program says what is to be done; the kernel says when it is.
    Completion,
    /// The program makes a call and waits in it.
    Blocking,
}

impl fmt::Display for Model {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Readiness => "readiness",
            Self::Completion => "completion",
            Self::Blocking => "blocking",
        })
    }
}

/// What `tidegate engines` says of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Which.
    pub kind: EngineKind,
    /// How it shares the work with the kernel.
    pub model: Model,
    /// How it learns that there is something to do.
    pub notification: &'static str,
    /// Who copies the bytes, and how often.
    pub copies: &'static str,
    /// System calls for one 100-byte message that passes through, measured as docs/method.md says: on one
    /// connection, and on 64.
    pub calls_per_message: [f32; 2],
    /// Memory of an idle connection in bytes, measured likewise: the process's, without the kernel's sockets.
    pub bytes_at_rest: u32,
}

const TWO_COPIES: &str = "two via user space (splice: none)";

/// Every engine that there is, in the order in which they are shown.
pub const FACTS: [Facts; 8] = [
    Facts {
        kind: EngineKind::Mio,
        model: Model::Readiness,
        notification: "epoll, kqueue or IOCP, edge",
        copies: TWO_COPIES,
        calls_per_message: [3.0, 2.1],
        bytes_at_rest: 460,
    },
    Facts {
        kind: EngineKind::IoUring,
        model: Model::Completion,
        notification: "completion queue",
        copies: "two via provided buffers",
        calls_per_message: [1.0, 0.1],
        bytes_at_rest: 793,
    },
    Facts {
        kind: EngineKind::Threads,
        model: Model::Blocking,
        notification: "the return of the call",
        copies: "two via user space",
        calls_per_message: [2.0, 2.0],
        bytes_at_rest: 28_425,
    },
    Facts {
        kind: EngineKind::EpollLevel,
        model: Model::Readiness,
        notification: "epoll, level",
        copies: TWO_COPIES,
        calls_per_message: [3.0, 2.1],
        bytes_at_rest: 460,
    },
    Facts {
        kind: EngineKind::Poll,
        model: Model::Readiness,
        notification: "poll, all sockets each time",
        copies: TWO_COPIES,
        calls_per_message: [3.0, 2.0],
        bytes_at_rest: 509,
    },
    Facts {
        kind: EngineKind::Select,
        model: Model::Readiness,
        notification: "select, all bits each time",
        copies: TWO_COPIES,
        calls_per_message: [3.0, 2.0],
        bytes_at_rest: 472,
    },
    Facts {
        kind: EngineKind::Sigio,
        model: Model::Readiness,
        notification: "queued real-time signals",
        copies: TWO_COPIES,
        calls_per_message: [5.0, 4.0],
        bytes_at_rest: 523,
    },
    Facts {
        kind: EngineKind::Aio,
        model: Model::Readiness,
        notification: "AIO ring of one-shot polls",
        copies: TWO_COPIES,
        calls_per_message: [4.0, 2.0],
        bytes_at_rest: 1_042,
    },
];

/// Why an engine cannot run here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{cause}\n  = help: {remedy}")]
pub struct Unavailable {
    /// What is in its way.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

impl Unavailable {
    /// For a call that an engine cannot do without, and the system's answer to it.
    #[must_use]
    pub fn refused(call: &str, error: &io::Error, remedy: &str) -> Self {
        Self { cause: format!("{call}: {error}"), remedy: remedy.to_owned() }
    }

    /// For an engine that asks what only another system answers.
    #[cfg(not(target_os = "linux"))]
    fn absent() -> Self {
        Self {
            cause: "it needs Linux".to_owned(),
            remedy: "`tidegate engines` lists those that run here".to_owned(),
        }
    }
}

/// Whether an engine can run here in so many workers, found out by trying what it needs. Leaves nothing behind.
///
/// # Errors
/// What is in its way, and what to do about it.
pub fn probe(kind: EngineKind, rings: Uring, workers: u16) -> Result<(), Unavailable> {
    #[cfg(not(target_os = "linux"))]
    let _ = (rings, workers);
    // What a build for this system has needs a descriptor or two, and nothing else that could be refused.
    let tried = match kind.resolved() {
        #[cfg(target_os = "linux")]
        EngineKind::IoUring => {
            // All at the same time: limits may allow one and not as many.
            let rings: Result<Vec<_>, _> = (0..workers).map(|_| Kernel::new(rings)).collect();
            return rings.map(drop);
        }
        // Its own thread waits as that of mio does.
        EngineKind::Auto | EngineKind::Mio | EngineKind::Threads => ByMio::new().map(drop),
        #[cfg(target_os = "linux")]
        EngineKind::EpollLevel => ByEpoll::new().map(drop),
        #[cfg(target_os = "linux")]
        EngineKind::Poll => ByPoll::new().map(drop),
        #[cfg(target_os = "linux")]
        EngineKind::Select => BySelect::new().map(drop),
        #[cfg(target_os = "linux")]
        EngineKind::Sigio => BySigio::new().map(drop),
        #[cfg(target_os = "linux")]
        EngineKind::Aio => {
            let contexts: io::Result<Vec<_>> = (0..workers).map(|_| ByAio::new()).collect();
            return contexts.map(drop).map_err(|error| {
                let remedy = "`sysctl fs.aio-max-nr` says how large all contexts of this machine may be, fs.aio-nr how \
                              large they are; a kernel without CONFIG_AIO, or before 4.19, has none";
                Unavailable::refused("io_setup or io_submit", &error, remedy)
            });
        }
        #[cfg(not(target_os = "linux"))]
        _ => return Err(Unavailable::absent()),
    };
    tried.map_err(|error| Unavailable::refused("no selector", &error, "see `ulimit -n`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_facts_of_every_engine_once() {
        for (name, kind) in EngineKind::NAMES.into_iter().filter(|(_, kind)| *kind != EngineKind::Auto) {
            assert_eq!(FACTS.iter().filter(|facts| facts.kind == kind).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_default_engine_runs_here() {
        assert_eq!(probe(EngineKind::Auto, Uring::default(), 1), Ok(()));
    }
}
