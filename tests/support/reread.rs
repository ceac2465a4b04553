//! Whatever is taken for a configuration can be written down and read again.

use tidegate::config;

/// Reads `bytes` as a configuration: refused with a reason, or the same again after a dump. Says whether it was
/// one.
///
/// # Panics
/// When it is neither.
pub(crate) fn check(bytes: &[u8]) -> bool {
    // A file of something else than UTF-8 is refused before it comes to this.
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match config::parse(text, "fuzz") {
        Err(report) => {
            assert!(!report.to_string().is_empty(), "refused without a word");
            false
        }
        Ok(read) => {
            let dump = config::dump(&read);
            match config::parse(&dump, "dump") {
                Err(report) => panic!("its dump is refused:\n{report}\n{dump}"),
                Ok(again) => assert_eq!(again, read, "{dump}"),
            }
            true
        }
    }
}
