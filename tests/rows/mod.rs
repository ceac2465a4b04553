//! The behaviours, by subject. Each function is one row and takes the engine's name.

pub(crate) mod accepting;
pub(crate) mod admitting;
pub(crate) mod balance;
pub(crate) mod bytes;
pub(crate) mod dialing;
pub(crate) mod drain;
pub(crate) mod heads;
pub(crate) mod hellos;
pub(crate) mod leaks;
pub(crate) mod leaving;
pub(crate) mod limits;
pub(crate) mod pace;
pub(crate) mod queueing;
pub(crate) mod resets;
pub(crate) mod sets;
pub(crate) mod sockets;
pub(crate) mod splice;
pub(crate) mod stuck;
pub(crate) mod timeouts;
pub(crate) mod unix;
pub(crate) mod vanished;
