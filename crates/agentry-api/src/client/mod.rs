//! A client of the HTTP API.
//!
//! A method for each resource returns a [`ApiCall`], to which headers can be added; awaiting it sends the request. Tests use
//! the same calls to send invalid requests or read raw responses.

mod call;
mod error;
mod resources;
mod stream;

use std::time::Duration;

pub use call::ApiCall;
pub use error::{ApiRefusal, Error};
use reqwest::{Method, Url};
use secrecy::SecretString;
pub use stream::{EventStream, ServerEvent, TaskEvent};

/// Timeout of reads; event streams send comments more often.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// A server, and the connections to it. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<SecretString>,
}

/// Builds a client.
#[derive(Debug)]
pub struct ClientBuilder {
    url: String,
    http: reqwest::ClientBuilder,
    key: Option<SecretString>,
}

impl ClientBuilder {
    /// Sends an API key with each request.
    #[must_use]
    pub fn key(self, key: Option<SecretString>) -> Self {
        Self { key, ..self }
    }

    /// Bounds the time of each request as a whole; streams end with it, too.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { http: self.http.timeout(timeout), ..self }
    }

    /// Builds the client.
    ///
    /// # Errors
    /// Fails when the URL is not one, or this machine has no TLS roots.
    pub fn build(self) -> Result<Client, Error> {
        let base = Url::parse(&self.url)
            .map_err(|error| Error::InvalidUrl(format!("`{}` is not a URL: {error}", self.url)))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(Error::InvalidUrl(format!("`{}` is not an http or https URL", self.url)));
        }
        let http = self.http.build().map_err(|error| Error::Setup(error::innermost(&error)))?;
        Ok(Client { http, base, key: self.key })
    }
}

impl Client {
    /// Returns a builder for a client of the server at `url`, the part before `/v1`.
    #[must_use]
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder { url: url.to_owned(), http: agentry_http::builder(url).read_timeout(READ_TIMEOUT), key: None }
    }

    /// Returns the server's address.
    #[must_use]
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Prepares any request below the server's address; each segment of the path is escaped.
    pub fn call<T>(&self, method: Method, path: &[&str]) -> ApiCall<T> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        ApiCall::new(self.clone(), method, url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_escaped_into_one_segment() {
        let client = Client::builder("http://127.0.0.1:1/base/").build().unwrap();
        let call = client.session("support:a/b c").query(&crate::PageQuery { cursor: None, limit: Some(5) });
        assert_eq!(call.url().as_str(), "http://127.0.0.1:1/base/v1/sessions/support:a%2Fb%20c?limit=5");
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for url in ["", "localhost:8080", "ftp://x", "mailto:a"] {
            assert!(matches!(Client::builder(url).build(), Err(Error::InvalidUrl(_))), "{url}");
        }
    }
}
