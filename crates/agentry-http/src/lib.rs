//! Construction of HTTP clients for models, tools, callbacks and the command line.
//!
//! Only this crate chooses the TLS provider: rustls refuses to choose between two, and its default (aws-lc) is C code that
//! takes more than a minute to build.

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response};

/// Time to open a connection, including TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns a builder with TLS, [`CONNECT_TIMEOUT`], our user agent, and no redirects, because a request with a credential
/// must not be sent elsewhere.
///
/// `url` is the address that will be called. Proxies of the environment do not apply to this machine.
pub fn builder(url: &str) -> ClientBuilder {
    // Fails when a provider is installed already, which can only be this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .user_agent(concat!("agentry/", env!("CARGO_PKG_VERSION")));
    if is_local(url) { builder.no_proxy() } else { builder }
}

/// Returns true for this machine and for link-local addresses, where cloud metadata services are.
#[must_use]
pub fn is_local(url: &str) -> bool {
    let host = host(url);
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.starts_with("::1]") || bracketed.starts_with("fd00:ec2::");
    }
    let name = host.split(':').next().unwrap_or(host);
    let is_near = |address: std::net::Ipv4Addr| address.is_loopback() || address.is_link_local();
    name == "localhost" || name.parse().is_ok_and(is_near)
}

/// Returns host and port of a URL, as it writes them.
#[must_use]
pub fn host(url: &str) -> &str {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or(url);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
}

/// Formats an error with all its causes. The text of `reqwest` names only the outermost layer.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// Reads at most `bound` bytes of a body. The flag is true when there was more.
///
/// # Errors
/// The connection was lost before the end of the body or the bound.
pub async fn read_bounded(mut response: Response, bound: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = bound - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body, true));
        }
    }
    Ok((body, false))
}

/// Options of pooled clients.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// Idle connections kept per host.
    pub max_idle_per_host: usize,
    /// Time to open a connection, including TLS.
    pub connect_timeout: Duration,
    /// Uses HTTP/2 when a TLS server offers it. Without TLS it is always HTTP/1.1.
    pub http2: bool,
}

/// Calls that share an HTTP/2 connection before another one is opened. Servers commonly allow 100 (RFC 9113, 6.5.2
/// recommends no less), and further calls would wait inside the client.
const CALLS_PER_CONNECTION: usize = 90;
/// Largest number of HTTP/2 connections to one host, enough for all calls in flight.
const MAX_SHARED_CONNECTIONS: usize = 24;
/// Interval of keep-alive pings on HTTP/2 connections with calls in flight.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// An HTTP client cannot be built, for example because this machine has no TLS roots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no HTTP client: {0}")]
pub struct ClientError(String);

/// Pooled clients, built when they are first needed: one for this machine, and several for other hosts, whose calls share
/// HTTP/2 connections.
#[derive(Debug)]
pub struct Clients {
    options: ClientOptions,
    local: Slot,
    remote: [Slot; MAX_SHARED_CONNECTIONS],
}

#[derive(Debug)]
struct Slot {
    client: OnceLock<Result<Client, ClientError>>,
    in_use: AtomicUsize,
}

impl Slot {
    const fn empty() -> Self {
        Self { client: OnceLock::new(), in_use: AtomicUsize::new(0) }
    }
}

/// A client for one call. Dropping it releases its share of a connection.
#[derive(Debug)]
pub struct Lease<'a> {
    client: &'a Client,
    in_use: &'a AtomicUsize,
}

impl Deref for Lease<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Clients {
    /// Creates HTTP/1.1 clients that keep this many idle connections per host.
    #[must_use]
    pub const fn new(max_idle_per_host: usize) -> Self {
        Self::with(ClientOptions { max_idle_per_host, connect_timeout: CONNECT_TIMEOUT, http2: false })
    }

    /// Creates clients with these options.
    #[must_use]
    pub const fn with(options: ClientOptions) -> Self {
        Self { options, local: Slot::empty(), remote: [const { Slot::empty() }; MAX_SHARED_CONNECTIONS] }
    }

    /// Returns the client for a URL.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn client(&self, url: &str) -> Result<&Client, ClientError> {
        self.built(if is_local(url) { &self.local } else { &self.remote[0] }, url)
    }

    /// Returns the client for one call to a URL, on the first connection with room for it.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn lease(&self, url: &str) -> Result<Lease<'_>, ClientError> {
        let slot = if is_local(url) {
            &self.local
        } else if !self.options.http2 {
            &self.remote[0]
        } else {
            let load = |slot: &&Slot| slot.in_use.load(Ordering::Relaxed);
            let with_room = self.remote.iter().find(|slot| load(slot) < CALLS_PER_CONNECTION);
            with_room.or_else(|| self.remote.iter().min_by_key(load)).unwrap_or(&self.remote[0])
        };
        let client = self.built(slot, url)?;
        slot.in_use.fetch_add(1, Ordering::Relaxed);
        Ok(Lease { client, in_use: &slot.in_use })
    }

    fn built<'a>(&self, slot: &'a Slot, url: &str) -> Result<&'a Client, ClientError> {
        let built = slot.client.get_or_init(|| {
            let ClientOptions { max_idle_per_host, connect_timeout, http2 } = self.options;
            let builder = builder(url).connect_timeout(connect_timeout).pool_max_idle_per_host(max_idle_per_host);
            let builder = if http2 {
                builder.http2_keep_alive_interval(PING_INTERVAL).http2_adaptive_window(true)
            } else {
                builder.http1_only()
            };
            builder.build().map_err(|error| ClientError(with_causes(&error)))
        });
        built.as_ref().map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CALLS_PER_CONNECTION, ClientOptions, Clients, builder, host, is_local};

    #[test]
    fn is_local_recognises_this_machine_only() {
        for url in ["http://127.0.0.1:80/v1", "http://127.8.9.1", "https://localhost/x", "http://[::1]:8080/v1"] {
            assert!(is_local(url), "{url}");
        }
        assert!(is_local("http://169.254.169.254/latest") && is_local("http://[fd00:ec2::254]/latest"));
        assert_eq!((host("https://u:p@h:1/x"), host("http://[::1]:2")), ("h:1", "[::1]:2"));
        for url in ["http://127.0.0.1.example.com", "http://localhost.example.com:80", "https://example.com/127.0.0.1"]
        {
            assert!(!is_local(url), "{url}");
        }
    }

    #[test]
    fn clients_are_made_once_for_each_side() {
        let clients = Clients::new(1);
        let local = std::ptr::from_ref(clients.client("http://127.0.0.1:1").expect("a client"));
        let outside = std::ptr::from_ref(clients.client("https://example.com").expect("a client"));
        assert_ne!(local, outside);
        assert_eq!(local, std::ptr::from_ref(clients.client("http://localhost:2").expect("the same client")));
    }

    #[test]
    fn a_connection_is_shared_until_it_is_full() {
        let clients =
            Clients::with(ClientOptions { max_idle_per_host: 1, connect_timeout: Duration::from_secs(1), http2: true });
        let lease = || clients.lease("https://example.com").expect("a client");
        let mut first: Vec<_> = (0..CALLS_PER_CONNECTION).map(|_| lease()).collect();
        let same = |a: &super::Lease<'_>, b: &super::Lease<'_>| std::ptr::eq(a.client, b.client);
        assert!(first.iter().all(|one| same(one, &first[0])));
        let next = lease();
        assert!(!same(&next, &first[0]), "the next call opens another connection");
        first.pop();
        assert!(same(&lease(), &first[0]), "a released share is used again");
    }

    #[test]
    fn the_tls_provider_is_chosen() {
        drop(builder("https://example.com").build().expect("a client with TLS"));
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
