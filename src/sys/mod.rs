//! The room that talks to the operating system. Beside it only the ring of `engine/uring` has `unsafe`.
//!
//! `io::Error` stops here while bytes are moved: above there is only [`crate::relay::Fault`]. At start-up
//! the operating system's own words are passed on, because a person reads them.

#[cfg(target_os = "linux")]
pub mod aio;
#[cfg(target_os = "linux")]
mod bell;
pub mod calls;
mod clock;
#[cfg(all(feature = "lab", target_os = "linux"))]
mod cpu_time;
mod holder;
pub mod input;
mod limits;
#[cfg(all(feature = "lab", target_os = "linux"))]
mod namespace;
pub mod net;
pub mod options;
pub mod output;
pub mod pipe;
#[cfg(target_os = "linux")]
pub mod poll;
mod pool;
mod queues;
mod reason;
#[cfg(target_os = "linux")]
pub mod sigio;
pub mod signals;
mod socket;
mod source;
pub mod supervisor;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tcp_info;
mod unacknowledged;
#[cfg(unix)]
mod unix;
pub mod user;
mod waiting;

#[cfg(target_os = "linux")]
pub use bell::Bell;
pub use clock::Clock;
#[cfg(all(feature = "lab", target_os = "linux"))]
pub use cpu_time::cpu_time;
pub use holder::holder_of;
#[cfg(all(feature = "lab", target_os = "linux"))]
pub use limits::aio_limit;
pub use limits::{
    allowed_cpus, cpu_time_of, descriptor_limit, give_way, longest_backlog, mapping_limit, open_descriptors,
    pin_to, raise_descriptor_limit, source_ports, thread_number,
};
#[cfg(all(feature = "lab", target_os = "linux"))]
pub use namespace::enter_new_network;
pub use net::{Net, Os, WouldBlock};
pub use pipe::Pipe;
pub use pool::{Lease, Pool};
pub use queues::overflows;
pub use reason::why_not_bound;
pub use source::bind_source;
#[cfg(unix)]
pub use unix::{SocketFile, listen_with_mode};
