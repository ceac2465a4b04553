//! The only room that talks to the operating system, and the only one with `unsafe`.
//!
//! `io::Error` stops here while bytes are moved: above there is only [`crate::relay::Fault`]. At start-up
//! the operating system's own words are passed on, because a person reads them.

mod clock;
mod holder;
mod limits;
pub mod net;
mod pool;
mod socket;
#[cfg(unix)]
mod unix;

pub use clock::Clock;
pub use holder::holder_of;
pub use limits::{allowed_cpus, descriptor_limit, pin_to, raise_descriptor_limit};
pub use net::{Net, Os, WouldBlock};
pub use pool::{Lease, Pool};
