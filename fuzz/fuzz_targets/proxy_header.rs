//! Bytes as headers of the PROXY protocol. What must hold is in the tests, which replay the corpus.
#![no_main]

#[path = "../../tests/support/header.rs"]
mod header;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    header::check(bytes);
});
