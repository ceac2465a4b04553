//! Log lines and access records leave through here, never blocking a worker.

mod record;

pub use record::Record;

/// The fields of an access line, in its order: the keys of the JSON form and the names in a template.
pub const FIELDS: &[&str] = &[
    "ts",
    "event",
    "id",
    "listener",
    "client",
    "pool",
    "server",
    "server_addr",
    "tries",
    "connect_ms",
    "duration_ms",
    "bytes_in",
    "bytes_out",
    "cause",
    "closer",
    "hap_ts",
    "engine",
    "worker",
];
