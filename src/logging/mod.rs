//! Log lines and access records leave through here, never blocking a worker.

mod record;

pub use record::Record;
