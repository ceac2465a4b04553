//! Whatever is taken for a configuration can be written down and read again.

use tidegate::config;

/// Reads `bytes` as a configuration: refused with a reason, or the same again after a dump. Other than UTF-8 is
/// refused before it comes to this.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match config::parse(text, "fuzz") {
        Err(report) => assert!(!report.to_string().is_empty(), "refused without a word"),
        Ok(read) => {
            let dump = config::dump(&read);
            match config::parse(&dump, "dump") {
                Err(report) => panic!("its dump is refused:\n{report}\n{dump}"),
                Ok(again) => assert_eq!(again, read, "{dump}"),
            }
        }
    }
}
