//! Bytes as what etcd answers. What must hold is in the tests, which replay the corpus.
#![no_main]

#[path = "../../tests/support/registry.rs"]
mod registry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    registry::check(bytes);
});
