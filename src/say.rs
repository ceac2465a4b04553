//! Writing for people to the standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes `text` to the standard output in one piece. A reader that has gone away (`tidegate … | head`) is
/// no error: it has read what it wanted.
///
/// # Errors
/// Whatever else the system says, such as a full disk.
pub(crate) fn say(text: impl Display) -> io::Result<()> {
    say_on(text).map(drop)
}

/// As [`say`], for who has more to say: `false` when the reader has gone away.
///
/// # Errors
/// As [`say`].
pub(crate) fn say_on(text: impl Display) -> io::Result<bool> {
    say_to(&mut io::stdout().lock(), text)
}

fn say_to(out: &mut impl Write, text: impl Display) -> io::Result<bool> {
    match out.write_all(text.to_string().as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is_one() {
        assert_eq!(say_to(&mut Failing(ErrorKind::BrokenPipe), "x").ok(), Some(false));
        assert_eq!(
            say_to(&mut Failing(ErrorKind::StorageFull), "x").unwrap_err().kind(),
            ErrorKind::StorageFull
        );
    }
}
