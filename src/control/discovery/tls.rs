//! Connections to those who are asked for servers, with TLS or without.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::Tls;
pub(super) use handshake::Files;

/// Whatever is read and written.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The connection as it is used. With TLS the other side must prove to be `host`, which is a name or an IP address; `files`
/// reads for it.
pub(super) async fn wrap(
    stream: TcpStream,
    host: &str,
    tls: Option<&Tls>,
    files: &Files,
) -> Result<Box<dyn Stream>, String> {
    match tls {
        Some(tls) => handshake::connect(stream, host, tls, files).await,
        None => Ok(Box::new(stream)),
    }
}

#[cfg(target_os = "linux")]
mod handshake {
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;

    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::Stream;
    use crate::config::Tls;
    use crate::control::discovery::reading::Reading;
    use crate::sys::input::open_to_read;

    /// The certificates and the key.
    pub(in crate::control::discovery) type Files = Reading<ClientConfig>;

    /// The files are read each time: they may be new.
    pub(super) async fn connect(
        stream: TcpStream,
        host: &str,
        tls: &Tls,
        files: &Files,
    ) -> Result<Box<dyn Stream>, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let tls = tls.clone();
        let config = files.take(move || config(&tls)).await?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream =
            connector.connect(name, stream).await.map_err(|error| format!("no TLS with it: {error}"))?;
        Ok(Box::new(stream))
    }

    fn config(Tls { ca, client }: &Tls) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        // Among those of a system there may be one or the other that nobody can read.
        let (good, _) = roots.add_parsable_certificates(certificates(ca)?);
        if good == 0 {
            return Err(unreadable(ca, &"no certificate in it is one of an authority"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let Some((certificate, key)) = client else { return Ok(config.with_no_client_auth()) };
        let own = PrivateKeyDer::from_pem_reader(open(key)?).map_err(|error| unreadable(key, &error))?;
        config
            .with_client_auth_cert(certificates(certificate)?, own)
            .map_err(|error| unreadable(certificate, &error))
    }

    fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(open(path)?).collect();
        match all {
            Ok(all) if all.is_empty() => Err(unreadable(path, &"there is no certificate in it")),
            all => all.map_err(|error| unreadable(path, &error)),
        }
    }

    fn open(path: &Path) -> Result<File, String> {
        open_to_read(path).map_err(|error| unreadable(path, &error))
    }

    fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> String {
        format!("cannot use {}: {why}", path.display())
    }
}

#[cfg(not(target_os = "linux"))]
mod handshake {
    use tokio::net::TcpStream;

    use super::Stream;
    use crate::config::Tls;
    use crate::control::discovery::reading::Reading;

    /// There is none to be read.
    pub(in crate::control::discovery) type Files = Reading<()>;

    pub(super) async fn connect(
        _: TcpStream,
        _: &str,
        _: &Tls,
        _: &Files,
    ) -> Result<Box<dyn Stream>, String> {
        Err("this build has no TLS".to_owned())
    }
}
