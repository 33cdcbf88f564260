//! The URL of a server, taken apart as far as a probe needs it.

use crate::LabError;

/// `scheme://[user[:password]@]host[:port][/path][?query]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The scheme.
    pub scheme: String,
    /// The user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The host.
    pub host: String,
    /// The port; the usual one when the URL names none.
    pub port: u16,
    /// Without the leading slash; a database or a virtual host.
    pub path: String,
    /// Without the leading question mark.
    pub query: String,
}

impl Address {
    /// Parses a URL.
    ///
    /// # Errors
    /// It is none. The error does not show it: it may hold a password.
    pub fn parse(url: &str, default_port: u16) -> Result<Self, LabError> {
        let (scheme, rest) = url.split_once("://").ok_or(LabError::Url("expected scheme://host:port/…"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) =
            authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
        let (user, password) =
            match login.map(|login| login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)))) {
                Some((user, password)) => {
                    (Some(decode(user)?).filter(|user| !user.is_empty()), password.map(decode).transpose()?)
                }
                None => (None, None),
            };
        let (host, port) = place_of(place, default_port)?;
        Ok(Self { scheme: scheme.to_owned(), user, password, host, port, path: decode(path)?, query: query.to_owned() })
    }

    /// Returns whether it asks for TLS, which a probe does not speak.
    #[must_use]
    pub fn wants_tls(&self) -> bool {
        matches!(self.scheme.as_str(), "rediss" | "amqps")
            || self
                .query
                .split('&')
                .any(|pair| matches!(pair, "sslmode=require" | "sslmode=verify-ca" | "sslmode=verify-full"))
    }
}

fn place_of(place: &str, default_port: u16) -> Result<(String, u16), LabError> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(str::parse).transpose().map_err(|_| LabError::Url("the port is not a number below 65536"))?;
    if host.is_empty() {
        return Err(LabError::Url("it has no host"));
    }
    Ok((host.to_owned(), port.unwrap_or(default_port)))
}

/// `%2f` and its like.
fn decode(text: &str) -> Result<String, LabError> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(LabError::Url("`%` must be followed by two hexadecimal digits"));
        };
        out.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(out).map_err(|_| LabError::Url("it is not UTF-8 after decoding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_and_decoded() {
        let address = Address::parse("amqp://gu%40est:p%3Aw@[::1]:5673/%2f?heartbeat=5", 5672).unwrap();
        assert_eq!(address.user.as_deref(), Some("gu@est"));
        assert_eq!(address.password.as_deref(), Some("p:w"));
        assert_eq!((address.host.as_str(), address.port, address.path.as_str()), ("::1", 5673, "/"));
        assert_eq!(address.query, "heartbeat=5");
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        let address = Address::parse("redis://localhost", 6379).unwrap();
        assert_eq!((address.user, address.password, address.port, address.path.as_str()), (None, None, 6379, ""));
        let address = Address::parse("redis://:secret@localhost/3", 6379).unwrap();
        assert_eq!((address.user, address.password.as_deref(), address.path.as_str()), (None, Some("secret"), "3"));
    }

    #[test]
    fn mistakes_are_refused_without_showing_the_password() {
        for wrong in
            ["localhost", "redis://", "redis://:secret@h:99999", "redis://u:secret%2@h", "redis://:secret@:6379"]
        {
            let error = Address::parse(wrong, 1).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn tls_is_seen() {
        for (url, tls) in [
            ("rediss://h", true),
            ("amqps://h", true),
            ("postgres://h/db?application_name=x&sslmode=require", true),
            ("postgres://h/db?sslmode=prefer", false),
        ] {
            assert_eq!(Address::parse(url, 1).unwrap().wants_tls(), tls, "{url}");
        }
    }
}
