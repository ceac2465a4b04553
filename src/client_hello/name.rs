//! Names of hosts, as a hello has them in `server_name`.

use std::fmt;
use std::net::Ipv4Addr;

/// The longest name, in bytes: RFC 1035, 2.3.4, as it is written.
pub const NAME_MAX: usize = 253;
/// The longest part between two dots, in bytes: RFC 1035, 2.3.4.
const LABEL_MAX: usize = 63;

/// A host's name in lower case, without a dot at its end. It holds its bytes itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerName {
    /// Zeros behind the name.
    bytes: [u8; NAME_MAX],
    len: u8,
}

/// Why something is no name of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing, or a dot alone.
    #[error("is empty")]
    Empty,
    /// More than [`NAME_MAX`] bytes.
    #[error("has {0} bytes; {NAME_MAX} at most are allowed")]
    Long(usize),
    /// A part between dots has none or more than 63 bytes.
    #[error("has a part of {0} bytes between its dots; 1 to {LABEL_MAX} are allowed")]
    Label(usize),
    /// Neither a letter, a digit, `-` nor `_`. Names in other scripts are sent as `xn--…`.
    #[error("has the byte {0:#04x}; letters, digits, `-`, `_` and dots are allowed")]
    Byte(u8),
    /// RFC 6066, 3: addresses are not allowed.
    #[error("is an address, not a name")]
    Address,
}

impl ServerName {
    /// The name that `written` is: case does not matter, nor does one dot at the end.
    ///
    /// # Errors
    /// [`BadName`]
    pub fn new(written: &[u8]) -> Result<Self, BadName> {
        let name = written.strip_suffix(b".").unwrap_or(written);
        if name.is_empty() {
            return Err(BadName::Empty);
        }
        if name.len() > NAME_MAX {
            return Err(BadName::Long(name.len()));
        }
        for label in name.split(|byte| *byte == b'.') {
            if !(1..=LABEL_MAX).contains(&label.len()) {
                return Err(BadName::Label(label.len()));
            }
            let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if let Some(byte) = label.iter().find(|byte| !fits(byte)) {
                return Err(BadName::Byte(*byte));
            }
        }
        let mut bytes = [0; NAME_MAX];
        bytes[..name.len()].copy_from_slice(name);
        bytes.make_ascii_lowercase();
        let name = Self { bytes, len: u8::try_from(name.len()).expect("it is at most NAME_MAX") };
        if name.as_str().parse::<Ipv4Addr>().is_ok() {
            return Err(BadName::Address);
        }
        Ok(name)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("every byte was seen to be ASCII")
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), out)
    }
}
