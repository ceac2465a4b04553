//! Lives of a relay. What a life is and what must hold in it is in the tests, which replay the corpus.
#![no_main]

#[path = "../../tests/support/trace.rs"]
mod trace;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trace::play(bytes));
