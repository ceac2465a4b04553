//! Lists of servers that stand elsewhere: `servers_file`, `servers_url`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::dns::DnsName;
use super::value::{self, Fault, Parsed};

/// Where a list of servers stands, and is looked at again and again. Shown without what may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListAt {
    /// `servers_file`: a whole path.
    File(PathBuf),
}

impl fmt::Display for ListAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "servers_file {}", path.display()),
        }
    }
}

impl ListAt {
    /// The key that names it.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::File(_) => "servers_file",
        }
    }

    /// The key's value.
    #[must_use]
    pub fn value(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// The default of `servers_poll`.
pub(super) const POLL: Duration = Duration::from_secs(5);

/// `servers_file`; `None` where it is empty.
pub(super) fn file(value: &DeValue<'_>) -> Parsed<Option<ListAt>> {
    let text = value::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(&text);
    if text.contains('\0') || text.ends_with('/') {
        return Err(Fault::new(format!("{text:?} is not the path of a file")));
    }
    if !path.is_absolute() {
        let fault = Fault::new(format!("{text:?} depends on where this program is started"));
        return Err(fault.help("write the whole path, from \"/\" on"));
    }
    Ok(Some(ListAt::File(path)))
}

/// `servers_poll`
pub(super) fn poll(value: &DeValue<'_>) -> Parsed<Duration> {
    let time = value::duration(value)?;
    if time < Duration::from_millis(100) {
        let fault = Fault::new("a list is looked at ten times a second at most");
        return Err(fault.help("write \"100ms\" or more"));
    }
    Ok(time)
}

/// What a server of a list may be called; what is wrong with it if it may not.
///
/// # Errors
/// Why not, in words.
pub fn check_name(name: &str) -> Result<(), String> {
    value::name(name).map_err(|fault| fault.message + "; " + &fault.help.unwrap_or_default())
}

/// The address of a server of a list.
///
/// # Errors
/// What is wrong with it, in words.
pub fn address_in_list(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(addr) if addr.port() != 0 => return Ok(addr),
        Ok(_) => return Err(format!("{text:?} has port 0; write the port that the server listens on")),
        Err(_) => {}
    }
    Err(if text.parse::<IpAddr>().is_ok() {
        format!("{text:?} has no port; write the port that the server listens on")
    } else if matches!(DnsName::read(text), Some(Ok(_))) {
        format!("{text:?} is a name; a list has addresses, names stand in [[pool.NAME.server]]")
    } else {
        format!("{text:?} is not an IP address and port such as \"10.0.0.1:5432\"")
    })
}
