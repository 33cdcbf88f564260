//! HTTP/2 over TLS where a server offers it, against a test server with its own certificate.
//!
//! The client runs in its own process, because it reads the trusted certificates from its environment.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::convert::Infallible;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentry_http::{CONNECT_TIMEOUT, ClientOptions, Clients};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Concurrent calls, which share one connection.
const CALLS: usize = 40;
/// Variable with the URL of the server, for the client process.
const URL: &str = "AGENTRY_TEST_TLS_URL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_share_one_connection_where_http_2_is_offered() {
    for (offered, version, connections) in [("h2", "HTTP/2.0", 1..=1), ("http/1.1", "HTTP/1.1", CALLS - 1..=CALLS)] {
        let (url, certificate, accepted) = server(offered).await;
        let dir = tempfile::tempdir().unwrap();
        let trusted = dir.path().join("trusted.pem");
        std::fs::write(&trusted, certificate).unwrap();
        let mut client = Command::new(std::env::current_exe().unwrap());
        client.args(["--exact", "client", "--ignored", "--nocapture"]).env(URL, url).env("SSL_CERT_FILE", trusted);
        let output = tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap();
        let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output_text}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output_text.matches(version).count(), CALLS, "{output_text}");
        let accepted = accepted.load(Ordering::Relaxed);
        // The connection of the first call may be used again by the others.
        assert!(connections.contains(&accepted), "{accepted} connections for {offered}");
    }
}

/// The client process, which the test above starts.
#[tokio::test]
#[ignore = "run by the test above in a process of its own"]
async fn client() {
    let url = std::env::var(URL).unwrap();
    let options = ClientOptions { max_idle_per_host: CALLS, connect_timeout: CONNECT_TIMEOUT, http2: true };
    let clients = Arc::new(Clients::with(options));
    // The first call opens the connection that the others share.
    println!("{:?}", clients.lease(&url).unwrap().get(&url).send().await.unwrap().version());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 1..CALLS {
        let (clients, url) = (Arc::clone(&clients), url.clone());
        calls.spawn(async move { clients.lease(&url).unwrap().get(&url).send().await.unwrap().version() });
    }
    while let Some(version) = calls.join_next().await {
        println!("{:?}", version.unwrap());
    }
}

/// Starts a server; returns its URL, its certificate and the number of accepted connections.
async fn server(offered: &str) -> (String, String, Arc<AtomicUsize>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![offered.as_bytes().to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|_: Request<hyper::body::Incoming>| async {
                    // Long enough that all calls are in flight at once.
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
                });
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (url, made.cert.pem(), accepted)
}
