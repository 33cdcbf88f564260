//! What the API's client says, turned into what a person can act on.

use agentry_api::{Error, List};
use reqwest::Method;
use serde_json::{Map, Value};

use crate::failure::Failure;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let advice = match &error {
            Error::InvalidUrl(text) => {
                return Self::usage(text).help("give the server's address, for example --url http://127.0.0.1:8080");
            }
            Error::Unreachable { .. } => {
                "start a server with `agentry serve`, or name another with --url or AGENTRY_URL"
            }
            Error::TimedOut { .. } => "`agentry doctor` checks the server",
            Error::Foreign { .. } => "is this the address of an Agentry server?",
            Error::Refused(refusal) => match refusal.problem.status {
                401 => "set AGENTRY_API_KEY, or pass --key; `agentry keys create NAME` makes a key",
                429 | 503 => "the server is busy: try again shortly",
                _ => return Self::new(error.to_string()),
            },
            Error::Setup(_) | Error::Broken { .. } => return Self::new(error.to_string()),
        };
        Self::new(error.to_string()).help(advice)
    }
}

/// A client for the demo, which reads answers as JSON.
#[derive(Debug, Clone)]
pub struct Client(agentry_api::Client);

impl Client {
    /// Makes a client of the server at `url`.
    ///
    /// # Errors
    /// When `url` is not one.
    pub fn new(url: &str) -> Result<Self, Failure> {
        Ok(Self(agentry_api::Client::builder(url).build()?))
    }

    /// `GET`.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        Ok(self.0.call(Method::GET, path).query(&fields(query)).await?)
    }

    /// The first `limit` rows of a list.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn list(&self, path: &[&str], query: &[(&str, String)], limit: usize) -> Result<Vec<Value>, Failure> {
        Ok(self.0.call::<List<Value>>(Method::GET, path).query(&fields(query)).all(limit).await?)
    }

    /// A request with a JSON body.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn send(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Value, Failure> {
        let call = self.0.call(method, path);
        Ok(if let Some(body) = body { call.json(body).await? } else { call.await? })
    }

    /// `POST` with a query.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn post(&self, path: &[&str], query: &[(&str, String)], body: &Value) -> Result<Value, Failure> {
        Ok(self.0.call(Method::POST, path).query(&fields(query)).json(body).await?)
    }

    /// `GET` of text.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub async fn text(&self, path: &[&str]) -> Result<String, Failure> {
        let bytes = self.0.call::<()>(Method::GET, path).bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn fields(query: &[(&str, String)]) -> Map<String, Value> {
    query.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_address_is_a_usage_error() {
        for url in ["", "localhost:8080", "ftp://x", "mailto:a"] {
            assert_eq!(Client::new(url).unwrap_err().exit_code(), 2, "{url}");
        }
    }
}
