//! TLS with those who are asked for servers: `servers_url`, `servers_etcd`.

use std::path::PathBuf;

use toml::de::DeValue;

use super::read::{Reader, Section, Value};
use super::value::{self, Fault, Parsed};

/// How both sides prove who they are. The files are read for each connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tls {
    /// `ca`: a file with whom the other's certificate must be signed by.
    pub ca: PathBuf,
    /// `client_cert` and `client_key`, two files
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The keys of it as they are read.
#[derive(Default)]
pub(super) struct Draft {
    ca: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

impl Reader {
    /// Takes `key` if it is one of those.
    pub(super) fn tls_key(&mut self, draft: &mut Draft, key: &str, value: &Value<'_>) -> bool {
        let slot = match key {
            "ca" => &mut draft.ca,
            "client_cert" => &mut draft.client_cert,
            "client_key" => &mut draft.client_key,
            _ => return false,
        };
        *slot = self.take(value, path);
        true
    }

    /// What they come to; `None` without TLS, or where something is wrong. `is_tls` is whether whom they are for has it, `None`
    /// where that is not known; `not_used` is what is wrong where it has not, and its cure.
    pub(super) fn tls(
        &mut self,
        section: &Section<'_>,
        draft: Draft,
        is_tls: Option<bool>,
        not_used: (&str, &str),
    ) -> Option<Tls> {
        self.require_both(section, ["client_cert", "client_key"]);
        let is_own = |key: &str| matches!(key, "ca" | "client_cert" | "client_key");
        if is_tls == Some(true) {
            let help = "write ca = \"/etc/ssl/certs/ca-certificates.crt\", or your own: who has signed the certificate there";
            self.require(section, "ca", help);
        } else if let (Some(false), Some(key)) =
            (is_tls, section.keys.keys().find(|key| is_own(key.get_ref())))
        {
            let (why, help) = not_used;
            let fault = Fault::new(format!("`{}` is for TLS, and {why}", key.get_ref()));
            self.problem(self.at(key.span().start), fault.help(help));
        }
        Some(Tls { ca: draft.ca?, client: draft.client_cert.zip(draft.client_key) })
    }

    /// Requires each of two keys where the other one is.
    pub(super) fn require_both(&mut self, section: &Section<'_>, keys: [&str; 2]) {
        let [one, other] = keys;
        for (key, beside) in [(one, other), (other, one)] {
            if section.keys.contains_key(beside) {
                self.require(section, key, &format!("it goes with `{beside}`: write both or none"));
            }
        }
    }
}

/// The whole path of a file.
pub(super) fn path(value: &DeValue<'_>) -> Parsed<PathBuf> {
    let text = value::text(value)?;
    let path = PathBuf::from(&text);
    if path.has_root() && !text.contains('\0') {
        return Ok(path);
    }
    let fault = Fault::new(format!("{text:?} is not the whole path of a file"));
    Err(fault.help("write it from \"/\" on"))
}
