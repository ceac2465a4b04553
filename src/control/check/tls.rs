//! Whether a TLS handshake can be made. Whom the certificate names and who signed it is not judged: clients do that, and
//! what they trust is not known here. When it ends is told.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;

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
        Some(reason) => match reason.downcast_ref() {
            Some(Error::InvalidMessage(_)) => Trouble::Said(format!("it does not speak TLS ({reason})")),
            _ => said(reason),
        },
        None => Trouble::Io(error),
    })?;
    let (_, session) = stream.get_ref();
    let reason = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS",
    };
    // The server's own comes first (RFC 8446, section 4.4.2).
    let ends = session.peer_certificates().and_then(|all| ends_at(all.first()?));
    // Says good-bye (close_notify), and with it ends this side of the connection.
    let _ = stream.shutdown().await;
    drop(stream);
    wire.certificate_ends = ends;
    Ok(reason.to_owned())
}

/// When a certificate ends, in seconds since 1970; none of one that is none.
fn ends_at(der: &[u8]) -> Option<u64> {
    let certificate = Certificate::from_der(der).ok()?;
    Some(certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of an Ed25519 key for itself, until 2046-11-22T22:27:38Z.
    const CERTIFICATE: &str = "\
        3082012c3081dfa00302010202146ff27be4e6574db20367c7873f2715b2d2a88717300506032b6570300c310a300806\
        035504030c0161301e170d3236313132373232323733385a170d3436313132323232323733385a300c310a3008060355\
        04030c0161302a300506032b657003210074e02b758813f689c9340be41114a72c18bb749dece4e7658b86b46e7783ea\
        6aa3533051301d0603551d0e04160414b3604d7a1d42fd7e2211279e4dd0cb5ceb32d817301f0603551d230418301680\
        14b3604d7a1d42fd7e2211279e4dd0cb5ceb32d817300f0603551d130101ff040530030101ff300506032b6570034100\
        f654bb001ccb145d60d7dd2fc4a5baf1169f2ee3326fde7adb99323e5d0d39c683e4d669ed794543585232d005d75295\
        7bb4bd3df127b2faf3a8adcf9b010b03";

    fn certificate() -> Vec<u8> {
        let digits = CERTIFICATE.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        assert_eq!(ends_at(&certificate()), Some(2_426_538_458));
        // No end: the last second of 9999 (RFC 5280, section 4.1.2.5), which takes two bytes more.
        let (utc, general) = (b"\x17\x0d461122222738Z", b"\x18\x0f99991231235959Z");
        let mut endless = certificate();
        let at = endless.windows(utc.len()).position(|part| part == utc).unwrap();
        endless.splice(at..at + utc.len(), general.iter().copied());
        // The lengths of the certificate, of what is signed, and of the validity.
        for length in [3, 6, at - 16] {
            endless[length] += 2;
        }
        assert_eq!(ends_at(&endless), Some(253_402_300_799));
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let whole = certificate();
        for length in 0..whole.len() {
            assert_eq!(ends_at(&whole[..length]), None, "{length}");
        }
        // One byte that is another one, at every place: whatever is made of it, it is made without a panic.
        let spoilt = (0..whole.len()).flat_map(|place| (1..=255).map(move |change| (place, change)));
        let mut differing = 0;
        for (place, change) in spoilt {
            let mut bytes = whole.clone();
            bytes[place] ^= change;
            differing += u32::from(ends_at(&bytes) != Some(2_426_538_458));
        }
        assert!(differing > 10_000, "{differing}");
    }
}
