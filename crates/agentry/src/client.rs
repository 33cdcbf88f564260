//! Errors of the API client as failures with advice.

use agentry_api::Error;

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

#[cfg(test)]
mod tests {
    use agentry_api::Client;

    use super::*;

    #[test]
    fn what_is_not_an_address_is_a_usage_error() {
        for url in ["", "localhost:8080", "ftp://x", "mailto:a"] {
            let error = Client::builder(url).build().unwrap_err();
            assert_eq!(Failure::from(error).exit_code(), 2, "{url}");
        }
    }
}
