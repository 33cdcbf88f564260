//! How Agentry makes HTTP clients, once for models, tools, callbacks and the command line.
//!
//! The one place that chooses the TLS provider: two of them in one process make rustls refuse to choose, and the one
//! that rustls takes by itself (aws-lc) is C code that builds for more than a minute.

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

/// Time to open a connection, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What every client has in common: TLS, [`CONNECT_TIMEOUT`], our name, and no redirects, because a request that carries
/// a credential goes where it was told and nowhere else.
///
/// `url`: where it will be used. Proxies from the environment are for the outside only: what listens on this machine is
/// reached directly.
pub fn builder(url: &str) -> ClientBuilder {
    // Refused when a provider is installed already, which can only be this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .user_agent(concat!("agentry/", env!("CARGO_PKG_VERSION")));
    if is_local(url) { builder.no_proxy() } else { builder }
}

/// Whether a URL names this machine, or a link-local address: the metadata services that clouds give a machine.
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

/// Host and port of a URL, as it writes them.
#[must_use]
pub fn host(url: &str) -> &str {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or(url);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
}

/// An error with everything that caused it: reqwest's own text names only the outermost layer.
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

/// How the clients of one kind are made.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// Idle connections kept for each host.
    pub max_idle_per_host: usize,
    /// Time to open a connection, TLS included.
    pub connect_timeout: Duration,
    /// Whether HTTP/2 is spoken where a server offers it by TLS. Without TLS it is HTTP/1.1 always.
    pub http2: bool,
}

/// Calls that share a connection of HTTP/2 before another one is opened. Servers commonly allow 100 (RFC 9113, 6.5.2
/// recommends no less), and what is beyond waits unseen inside the client.
const CALLS_PER_CONNECTION: usize = 90;
/// Connections of HTTP/2 to one host at most: as many calls as are in flight at once.
const MAX_SHARED_CONNECTIONS: usize = 24;
/// How often an HTTP/2 connection with calls under way is asked whether it still lives.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Pooled clients of one kind, made when they are first needed: one for this machine, and for the outside as many as
/// have connections to share.
#[derive(Debug)]
pub struct Clients {
    options: ClientOptions,
    local: Slot,
    outside: [Slot; MAX_SHARED_CONNECTIONS],
}

#[derive(Debug)]
struct Slot {
    client: OnceLock<Result<Client, String>>,
    in_use: AtomicUsize,
}

impl Slot {
    const fn empty() -> Self {
        Self { client: OnceLock::new(), in_use: AtomicUsize::new(0) }
    }
}

/// A client for one call. Its share of a connection is given back when this is dropped.
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
    /// Clients of HTTP/1.1 that keep this many idle connections for each host.
    #[must_use]
    pub const fn new(max_idle_per_host: usize) -> Self {
        Self::with(ClientOptions { max_idle_per_host, connect_timeout: CONNECT_TIMEOUT, http2: false })
    }

    /// Clients made in this way.
    #[must_use]
    pub const fn with(options: ClientOptions) -> Self {
        Self { options, local: Slot::empty(), outside: [const { Slot::empty() }; MAX_SHARED_CONNECTIONS] }
    }

    /// The client for a URL.
    ///
    /// # Errors
    /// Why there is none (no TLS roots on this machine, for example).
    pub fn client(&self, url: &str) -> Result<&Client, String> {
        self.made(if is_local(url) { &self.local } else { &self.outside[0] }, url)
    }

    /// The client for one call to a URL, by the first connection with room for it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn lease(&self, url: &str) -> Result<Lease<'_>, String> {
        let slot = if is_local(url) {
            &self.local
        } else if !self.options.http2 {
            &self.outside[0]
        } else {
            let load = |slot: &&Slot| slot.in_use.load(Ordering::Relaxed);
            let with_room = self.outside.iter().find(|slot| load(slot) < CALLS_PER_CONNECTION);
            with_room.or_else(|| self.outside.iter().min_by_key(load)).unwrap_or(&self.outside[0])
        };
        let client = self.made(slot, url)?;
        slot.in_use.fetch_add(1, Ordering::Relaxed);
        Ok(Lease { client, in_use: &slot.in_use })
    }

    fn made<'a>(&self, slot: &'a Slot, url: &str) -> Result<&'a Client, String> {
        let built = slot.client.get_or_init(|| {
            let ClientOptions { max_idle_per_host, connect_timeout, http2 } = self.options;
            let builder = builder(url).connect_timeout(connect_timeout).pool_max_idle_per_host(max_idle_per_host);
            let builder = if http2 {
                builder.http2_keep_alive_interval(PING_INTERVAL).http2_adaptive_window(true)
            } else {
                builder.http1_only()
            };
            builder.build().map_err(|error| with_causes(&error))
        });
        built.as_ref().map_err(|problem| format!("no HTTP client: {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CALLS_PER_CONNECTION, ClientOptions, Clients, builder, host, is_local};

    #[test]
    fn this_machine_is_told_from_names_that_look_like_it() {
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
        assert!(same(&lease(), &first[0]), "room that was given back is used");
    }

    #[test]
    fn the_tls_provider_is_chosen() {
        drop(builder("https://example.com").build().expect("a client with TLS"));
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
