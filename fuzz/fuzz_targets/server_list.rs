//! Bytes as lists of servers. What must hold is in the tests, which replay the corpus.
#![no_main]

#[path = "../../tests/support/server_list.rs"]
mod server_list;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    server_list::check(bytes);
});
