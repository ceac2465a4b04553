//! Whether a TLS handshake can be made. Whom the certificate names and who signed it is not judged: clients do that, and
//! what they trust is not known here.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::wire::Wire;
use super::{Found, Trouble};
use crate::config::Address;

pub(super) async fn shake_hands(wire: &mut Wire, addr: &Address, sni: &str) -> Found {
    let said = |error: &dyn std::fmt::Display| Trouble::Said(format!("TLS: {error}"));
    // Without a name to ask for, an address stands in its place, which is not sent (RFC 6066, section 3).
    let name = match addr.ip() {
        _ if !sni.is_empty() => ServerName::try_from(sni.to_owned()).map_err(|error| said(&error))?,
        Some(at) => ServerName::IpAddress(at.ip().into()),
        None => ServerName::IpAddress(std::net::IpAddr::from([0; 4]).into()),
    };
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Anybody(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| said(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, &mut *wire).await;
    let mut stream = stream.map_err(|error| match error.get_ref() {
        Some(reason) => said(reason),
        None => Trouble::Io(error),
    })?;
    let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
    let reason = version.unwrap_or("TLS").to_owned();
    // Says good-bye (close_notify), and with it ends this side of the connection.
    let _ = stream.shutdown().await;
    Ok(reason)
}

/// Takes any certificate for whose key the server has proven that it has it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
