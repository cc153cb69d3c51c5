//! TLS of the listeners: one certificate, HTTP/2 or HTTP/1.1 as the client prefers.

use std::sync::Arc;

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig as RustlsConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::{
    config::ServerConfig,
    error::{Error, Result},
};

/// Protocols in order of preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What TLS needs, read from the files of the settings; nothing if none is set.
pub fn acceptor(config: &ServerConfig) -> Result<Option<TlsAcceptor>> {
    let (cert_file, key_file) = (&config.tls_cert_file, &config.tls_key_file);
    match (cert_file.is_empty(), key_file.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => return Err(Error::usage("server.tls_key_file is set, but server.tls_cert_file is not: TLS needs both")),
        (false, true) => return Err(Error::usage("server.tls_cert_file is set, but server.tls_key_file is not: TLS needs both")),
        (false, false) => {}
    }
    let wrong = |setting: &str, file: &str, e: &dyn std::fmt::Display| Error::usage(format!("server.{setting} {file}: {e}"));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect)
        .map_err(|e| wrong("tls_cert_file", cert_file, &format!("cannot be read: {e}")))?;
    if chain.is_empty() {
        return Err(wrong("tls_cert_file", cert_file, &"holds no certificate: give a PEM file, the server's own certificate first"));
    }
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|e| wrong("tls_key_file", key_file, &format!("cannot be read: {e}: give an unencrypted private key in PEM")))?;
    let builder = RustlsConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    let built = builder.and_then(|b| b.with_no_client_auth().with_single_cert(chain, key));
    let mut tls = built.map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            wrong("tls_key_file", key_file, &format!("does not belong to the certificate in {cert_file}"))
        }
        e => wrong("tls_cert_file", cert_file, &e),
    })?;
    tls.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}
