//! Bytes as what a TLS client says first. What must hold is in the tests, which replay the corpus.
#![no_main]

#[path = "../../tests/support/hello.rs"]
mod hello;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hello::check(bytes);
});
