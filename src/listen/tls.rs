//! TLS of the listeners: one certificate, HTTP/2 or HTTP/1.1 as the client prefers, and certificates of clients if they are
//! wanted. Files that change are taken up while the process runs.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig as RustlsConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

use crate::{
    config::ServerConfig,
    error::{Error, Result},
};

/// Protocols in order of preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What the connections of a listener need for TLS.
#[derive(Debug)]
pub struct Tls {
    settings: ServerConfig,
    /// Pause between two looks at the files; none if they are read once.
    pause: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<RustlsConfig>,
    /// A hash of the files it was made of.
    made_of: u64,
    looked_at: Instant,
}

impl Tls {
    /// Reads the files of the settings; nothing if none is set.
    pub fn new(settings: &ServerConfig) -> Result<Option<Arc<Self>>> {
        let (cert, key) = (&settings.tls_cert_file, &settings.tls_key_file);
        match (cert.is_empty(), key.is_empty()) {
            (true, true) if settings.tls_client_ca_file.is_empty() => return Ok(None),
            (true, true) => {
                return Err(Error::usage(
                    "server.tls_client_ca_file is set, but server.tls_cert_file is not: clients show theirs over TLS only",
                ));
            }
            (true, false) => return Err(Error::usage("server.tls_key_file is set, but server.tls_cert_file is not: TLS needs both")),
            (false, true) => return Err(Error::usage("server.tls_cert_file is set, but server.tls_key_file is not: TLS needs both")),
            (false, false) => {}
        }
        let files = Files::read(settings)?;
        let state = State { config: files.config(settings)?, made_of: files.hash(), looked_at: Instant::now() };
        let pause = (settings.tls_reload_seconds > 0).then(|| Duration::from_secs(settings.tls_reload_seconds));
        Ok(Some(Arc::new(Self { settings: settings.clone(), pause, state: Mutex::new(state) })))
    }

    /// For the next connection: with what the files hold now, if it was time to look at them and they are sound.
    pub fn acceptor(&self) -> TlsAcceptor {
        if self.is_due() {
            self.look();
        }
        TlsAcceptor::from(self.state().config.clone())
    }

    /// Whether this connection is the one that looks.
    fn is_due(&self) -> bool {
        let Some(pause) = self.pause else { return false };
        let mut state = self.state();
        let due = state.looked_at.elapsed() >= pause;
        if due {
            state.looked_at = Instant::now();
        }
        due
    }

    fn look(&self) {
        let made_of = self.state().made_of;
        let read = Files::read(&self.settings).and_then(|files| {
            let hash = files.hash();
            Ok(if hash == made_of { None } else { Some((files.config(&self.settings)?, hash)) })
        });
        match read {
            Ok(None) => {}
            Ok(Some((config, hash))) => {
                let mut state = self.state();
                (state.config, state.made_of) = (config, hash);
                tracing::info!("the certificate of TLS has changed: new connections see the new one");
            }
            // Perhaps the certificate is there and its key not yet.
            Err(e) => tracing::error!(error = %e, "the new certificate of TLS cannot be used: the old one stays"),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the files hold.
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    fn read(settings: &ServerConfig) -> Result<Self> {
        let read = |setting: &str, file: &str| fs::read(file).map_err(|e| wrong(setting, file, &format!("cannot be read: {e}")));
        let ca = &settings.tls_client_ca_file;
        Ok(Self {
            cert: read("tls_cert_file", &settings.tls_cert_file)?,
            key: read("tls_key_file", &settings.tls_key_file)?,
            client_ca: (!ca.is_empty()).then(|| read("tls_client_ca_file", ca)).transpose()?,
        })
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.cert, &self.key, &self.client_ca).hash(&mut hasher);
        hasher.finish()
    }

    fn config(&self, settings: &ServerConfig) -> Result<Arc<RustlsConfig>> {
        let (cert_file, key_file) = (&settings.tls_cert_file, &settings.tls_key_file);
        let chain = certificates("tls_cert_file", cert_file, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|e| wrong("tls_key_file", key_file, &format!("cannot be read: {e}: give an unencrypted private key in PEM")))?;
        let provider = Arc::new(ring::default_provider());
        let builder = RustlsConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|e| wrong("tls_cert_file", cert_file, &e))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let file = &settings.tls_client_ca_file;
                let mut roots = RootCertStore::empty();
                for certificate in certificates("tls_client_ca_file", file, ca)? {
                    roots.add(certificate).map_err(|e| wrong("tls_client_ca_file", file, &e))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|e| wrong("tls_client_ca_file", file, &e))?)
            }
        };
        let mut tls = builder.with_single_cert(chain, key).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => {
                wrong("tls_key_file", key_file, &format!("does not belong to the certificate in {cert_file}"))
            }
            e => wrong("tls_cert_file", cert_file, &e),
        })?;
        tls.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        Ok(Arc::new(tls))
    }
}

/// The certificates of a file; at least one.
fn certificates(setting: &str, file: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    let read = read.map_err(|e| wrong(setting, file, &format!("cannot be read: {e}")))?;
    if read.is_empty() {
        return Err(wrong(setting, file, &"holds no certificate: give a PEM file, the server's own certificate first"));
    }
    Ok(read)
}

fn wrong(setting: &str, file: &str, e: &dyn std::fmt::Display) -> Error {
    Error::usage(format!("server.{setting} {file}: {e}"))
}
