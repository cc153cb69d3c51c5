//! Tests of the listeners: HTTP/1.1 and HTTP/2 on one port, with TLS and without.

use super::*;

#[tokio::test]
async fn a_taken_port_names_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = bind("http-addr", &address).await.unwrap_err().to_string();
    assert!(text.contains(&address) && text.contains("--http-addr"), "{text}");
    assert!(bind("flight-addr", "nonsense").await.unwrap_err().to_string().contains("--flight-addr"));
    assert!(bind_jaeger(&address).await.unwrap_err().to_string().contains("--jaeger-addr"));
    assert!(bind_jaeger("off").await.unwrap().is_none());
    let (first, second) = (bind_jaeger("").await.unwrap(), bind_jaeger("").await.unwrap());
    assert!(first.is_some() && second.is_some(), "the second takes a free port");
}

#[tokio::test]
async fn a_gate_answers_until_it_is_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ready", listener.local_addr().unwrap());
    let readiness = Readiness::not_yet("replaying");
    let (gate, stop) = (Gate::new(readiness.clone()), CancellationToken::new());
    let serving = gate.serve(Listener { socket: listener, tls: None }, stop.clone());
    let get = async |client: &reqwest::Client| {
        let response = client.get(&url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let http1 = reqwest::Client::builder().no_proxy().build().unwrap();
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    assert_eq!(get(&http1).await, (503, "replaying\n".to_owned()));
    gate.open(Router::new().route("/ready", axum::routing::get(move || async move { readiness.answer() })));
    gate.readiness.set(None);
    for client in [http1, http2] {
        assert_eq!(get(&client).await, (200, "ready\n".to_owned()));
        drop(client);
    }
    stop.cancel();
    serving.await.unwrap();
}

#[test]
fn the_file_is_there_while_its_guard_lives() {
    let dir = tempfile::tempdir().unwrap();
    let any: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let addresses = Addresses { http: any, otlp_grpc: any, otlp_http: any, flight: any, jaeger: None };
    let guard = addresses.write(dir.path()).unwrap();
    let read = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
    let read: Written = serde_json::from_str(&read).unwrap();
    assert_eq!((read.addresses, read.pid), (addresses, std::process::id()));
    drop(guard);
    assert!(!dir.path().join(FILE).exists());
}

/// A certificate for `localhost` and its key as files, and as what a client trusts.
struct Certificate {
    config: ServerConfig,
    trusted: reqwest::Certificate,
    _folder: tempfile::TempDir,
}

fn certificate() -> Certificate {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = ServerConfig {
        tls_cert_file: file("cert.pem", made.cert.pem()),
        tls_key_file: file("key.pem", made.signing_key.serialize_pem()),
        ..ServerConfig::default()
    };
    Certificate { config, trusted: reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap(), _folder: folder }
}

#[tokio::test]
async fn tls_speaks_both_versions_of_http() {
    let certificate = certificate();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (gate, stop) = (Gate::new(Readiness::not_yet("starting")), CancellationToken::new());
    gate.open(Router::new().route("/version", axum::routing::get(async |request: Request| format!("{:?}", request.version()))));
    let tls = Tls::new(&certificate.config).unwrap();
    assert!(tls.is_some());
    let serving = gate.serve(Listener { socket, tls }, stop.clone());
    let url = format!("https://localhost:{}/version", address.port());
    let client = || reqwest::Client::builder().no_proxy().add_root_certificate(certificate.trusted.clone()).resolve("localhost", address);
    // The client offers both, then the old one only; the server chooses by ALPN.
    for (client, version) in [(client().build().unwrap(), "HTTP/2.0"), (client().http1_only().build().unwrap(), "HTTP/1.1")] {
        assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), version);
    }
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(plain.get(format!("http://{address}/version")).send().await.is_err());
    assert!(plain.get(&url).send().await.is_err(), "nobody trusts this certificate");
    stop.cancel();
    serving.await.unwrap();
}

#[test]
fn wrong_files_of_tls_are_named() {
    let (good, other) = (certificate(), certificate());
    let error = |change: &dyn Fn(&mut ServerConfig)| {
        let mut config = good.config.clone();
        change(&mut config);
        Tls::new(&config).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(error(&|_| {}), "");
    assert!(error(&|c| c.tls_key_file.clear()).contains("server.tls_key_file is not"));
    assert!(error(&|c| c.tls_cert_file.clear()).contains("server.tls_cert_file is not"));
    assert!(error(&|c| c.tls_client_ca_file.clone_from(&c.tls_key_file)).contains("server.tls_client_ca_file"));
    assert!(error(&|c| c.tls_client_ca_file = "/nowhere/ca.pem".to_owned()).contains("server.tls_client_ca_file /nowhere/ca.pem"));
    let only = ServerConfig { tls_client_ca_file: "ca.pem".to_owned(), ..ServerConfig::default() };
    assert!(Tls::new(&only).unwrap_err().to_string().contains("server.tls_cert_file is not"));
    assert!(
        error(&|c| c.tls_cert_file = "/nowhere/cert.pem".to_owned()).contains("server.tls_cert_file /nowhere/cert.pem: cannot be read")
    );
    assert!(error(&|c| c.tls_cert_file.clone_from(&c.tls_key_file)).contains("holds no certificate"));
    assert!(error(&|c| c.tls_key_file.clone_from(&c.tls_cert_file)).contains("server.tls_key_file"));
    assert!(error(&|c| c.tls_key_file.clone_from(&other.config.tls_key_file)).contains("does not belong to the certificate"));
}

/// A gate behind which anything is answered, on a port of its own, with the TLS of these settings.
async fn answering(config: &ServerConfig) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let gate = Gate::new(Readiness::not_yet("starting"));
    gate.open(Router::new().fallback(async || "here"));
    // Ends with the runtime of the test.
    drop(gate.serve(Listener { socket, tls: Tls::new(config).unwrap() }, CancellationToken::new()));
    address
}

/// What a new connection is told, if it is told anything.
async fn asked(address: SocketAddr, trusted: &reqwest::Certificate, own: Option<&str>) -> Option<String> {
    let mut client = reqwest::Client::builder().no_proxy().resolve("localhost", address).tls_built_in_root_certs(false);
    client = client.add_root_certificate(trusted.clone());
    if let Some(pem) = own {
        client = client.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    let answer = client.build().unwrap().get(format!("https://localhost:{}/", address.port())).send().await.ok()?;
    answer.text().await.ok()
}

#[tokio::test]
async fn a_client_shows_a_certificate_if_that_is_wanted() {
    let certificate = certificate();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut signer = rcgen::CertificateParams::new(Vec::new()).unwrap();
    signer.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let signed_by = |signer: &rcgen::CertificateParams, key: &rcgen::KeyPair| {
        let issuer = rcgen::Issuer::from_params(signer, key);
        let own = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.signed_by(&own, &issuer).unwrap().pem() + &own.serialize_pem()
    };
    let ca_file = certificate._folder.path().join("ca.pem");
    std::fs::write(&ca_file, signer.self_signed(&key).unwrap().pem()).unwrap();
    let config = ServerConfig { tls_client_ca_file: ca_file.to_str().unwrap().to_owned(), ..certificate.config.clone() };
    let address = answering(&config).await;
    assert_eq!(asked(address, &certificate.trusted, Some(&signed_by(&signer, &key))).await.as_deref(), Some("here"));
    assert_eq!(asked(address, &certificate.trusted, None).await, None);
    let stranger = rcgen::KeyPair::generate().unwrap();
    assert_eq!(asked(address, &certificate.trusted, Some(&signed_by(&signer, &stranger))).await, None);
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let (first, second) = (certificate(), certificate());
    let config = ServerConfig { tls_reload_seconds: 1, ..first.config.clone() };
    let fixed = answering(&ServerConfig { tls_reload_seconds: 0, ..first.config.clone() }).await;
    let address = answering(&config).await;
    let next = async || tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(asked(address, &first.trusted, None).await.is_some());
    // The certificate is there before its key.
    std::fs::copy(&second.config.tls_cert_file, &config.tls_cert_file).unwrap();
    next().await;
    assert!(asked(address, &first.trusted, None).await.is_some());
    std::fs::copy(&second.config.tls_key_file, &config.tls_key_file).unwrap();
    next().await;
    assert!(asked(address, &second.trusted, None).await.is_some());
    assert!(asked(address, &first.trusted, None).await.is_none());
    assert!(asked(fixed, &first.trusted, None).await.is_some(), "files that are read once");
}
