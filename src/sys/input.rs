//! Files that are read.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a regular file to read it. Does not wait: a FIFO that nobody writes is an error, not a thread that hangs.
///
/// # Errors
/// The operating system's, or that it is something else.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let what = if kind.is_dir() { "a directory" } else { "a FIFO or a device" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, where a regular file is needed")))
}
