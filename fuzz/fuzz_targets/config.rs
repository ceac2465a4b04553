//! Texts as configurations. What must hold is in the tests, which replay the corpus.
#![no_main]

#[path = "../../tests/support/reread.rs"]
mod reread;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reread::check(bytes);
});
