//! The room that talks to the operating system. Beside it only the ring of `engine/uring` has `unsafe`.
//!
//! `io::Error` stops here while bytes are moved: above there is only [`crate::relay::Fault`]. At start-up
//! the operating system's own words are passed on, because a person reads them.

#[cfg(target_os = "linux")]
pub mod aio;
#[cfg(target_os = "linux")]
mod bell;
mod clock;
mod holder;
mod limits;
pub mod net;
pub mod output;
pub mod pipe;
#[cfg(target_os = "linux")]
pub mod poll;
mod pool;
#[cfg(target_os = "linux")]
pub mod sigio;
pub mod signals;
mod socket;
mod unacknowledged;
#[cfg(unix)]
mod unix;
mod waiting;

#[cfg(target_os = "linux")]
pub use bell::Bell;
pub use clock::Clock;
pub use holder::holder_of;
pub use limits::{allowed_cpus, descriptor_limit, pin_to, raise_descriptor_limit};
pub use net::{Net, Os, WouldBlock};
pub use pipe::Pipe;
pub use pool::{Lease, Pool};
