//! How Agentry makes HTTP clients, once for models, tools, callbacks and the command line.
//!
//! The one place that chooses the TLS provider: two of them in one process make rustls refuse to choose, and the one
//! that rustls takes by itself (aws-lc) is C code that builds for more than a minute.

use std::sync::OnceLock;
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

/// Whether a URL names this machine.
#[must_use]
pub fn is_local(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or(url);
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.starts_with("::1]");
    }
    let name = host.split(':').next().unwrap_or(host);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
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

/// Two pooled clients of one kind, made when they are first needed: for this machine and for the outside.
#[derive(Debug)]
pub struct Clients {
    max_idle_per_host: usize,
    local: OnceLock<Result<Client, String>>,
    outside: OnceLock<Result<Client, String>>,
}

impl Clients {
    /// Clients that keep this many idle connections for each host.
    #[must_use]
    pub const fn new(max_idle_per_host: usize) -> Self {
        Self { max_idle_per_host, local: OnceLock::new(), outside: OnceLock::new() }
    }

    /// The client for a URL.
    ///
    /// # Errors
    /// Why there is none (no TLS roots on this machine, for example).
    pub fn client(&self, url: &str) -> Result<&Client, String> {
        let slot = if is_local(url) { &self.local } else { &self.outside };
        let built = slot.get_or_init(|| {
            let builder = builder(url).http1_only().pool_max_idle_per_host(self.max_idle_per_host);
            builder.build().map_err(|error| with_causes(&error))
        });
        built.as_ref().map_err(|problem| format!("no HTTP client: {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Clients, builder, is_local};

    #[test]
    fn this_machine_is_told_from_names_that_look_like_it() {
        for url in ["http://127.0.0.1:80/v1", "http://127.8.9.1", "https://localhost/x", "http://[::1]:8080/v1"] {
            assert!(is_local(url), "{url}");
        }
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
    fn the_tls_provider_is_chosen() {
        drop(builder("https://example.com").build().expect("a client with TLS"));
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
