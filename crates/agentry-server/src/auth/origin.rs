//! Checks of `Host` and `Origin`. A server that requires no key, or listens on loopback only, refuses host names that a
//! web page could have rebound to it (DNS rebinding): to the browser the page and this server would be the same site.
//! An IP address in `Host` cannot be rebound. Writes that a browser sends on behalf of another site are refused, whatever
//! cookie they carry.

use axum::http::{HeaderMap, Uri, header};

use super::Access;
use crate::problem::{ApiProblem, Code};

/// The most characters of a header that are quoted in an error.
const SHOWN: usize = 80;

/// Returns the host of an authority, in lower case, without its port.
fn name_of(authority: &str) -> String {
    let authority = authority.trim().to_ascii_lowercase();
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address.to_owned(),
        None => authority.split(':').next().unwrap_or_default().to_owned(),
    }
}

fn is_this_machine(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns the host of a request: the `Host` header, or HTTP/2's `:authority`.
fn host<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    let header = headers.get(header::HOST).map(|value| value.to_str().unwrap_or("?"));
    header.or_else(|| uri.authority().map(|authority| authority.as_str()))
}

/// Refuses a `Host` that is neither this machine nor allowed by the settings. A server beyond loopback accepts any IP
/// address. A request without `Host` does not come from a browser.
pub(crate) fn check_host(access: &Access, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiProblem> {
    let Some(host) = host(headers, uri) else { return Ok(()) };
    let name = name_of(host);
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    if is_this_machine(&name) || (is_address && !access.loopback) || access.hosts.contains(&name) {
        return Ok(());
    }
    let shown: String = host.chars().take(SHOWN).collect();
    let detail = if access.loopback {
        format!(
            "`Host` is `{shown}`, and this server listens on this machine only: use localhost, or name the host in \
             AGENTRY_ALLOWED_HOSTS when a proxy stands before it"
        )
    } else {
        format!(
            "`Host` is `{shown}`, and this server asks for no key: use its address, name the host in \
             AGENTRY_ALLOWED_HOSTS, or make an API key"
        )
    };
    Err(ApiProblem::new(Code::HostRefused, detail))
}

/// Refuses writes of pages of other sites, by `Origin` and `Sec-Fetch-Site`.
pub(crate) fn check_page(headers: &HeaderMap, uri: &Uri) -> Result<(), ApiProblem> {
    let host = host(headers, uri);
    let text = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or("?"));
    let foreign = match text(header::ORIGIN) {
        Some(origin) => origin.split_once("://").map(|(_, authority)| authority) != host,
        None => text(header::HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "cross-site"),
    };
    if foreign {
        let shown: String = text(header::ORIGIN).unwrap_or("another site").chars().take(SHOWN).collect();
        let detail = format!("a page of {shown} may not change anything here: open the dashboard of this server");
        return Err(ApiProblem::new(Code::OriginRefused, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(loopback: bool, pairs: &[(&'static str, &str)], writes: bool) -> Option<Code> {
        checked_open(loopback, false, pairs, writes)
    }

    fn checked_open(loopback: bool, open: bool, pairs: &[(&'static str, &str)], writes: bool) -> Option<Code> {
        let access = Access { loopback, hosts: vec!["agents.example".to_owned()], ..Access::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        let uri = Uri::from_static("/v1/tasks");
        let by_host = if loopback || open { check_host(&access, &headers, &uri) } else { Ok(()) };
        let by_page = || if writes { check_page(&headers, &uri) } else { Ok(()) };
        by_host.and_then(|()| by_page()).err().map(|problem| problem.code)
    }

    #[test]
    fn a_local_server_answers_to_names_of_this_machine_only() {
        for good in ["localhost:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "LOCALHOST", "agents.example:443"] {
            assert_eq!(checked(true, &[("host", good)], false), None, "{good}");
        }
        for bad in ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "192.168.0.7", ""] {
            assert_eq!(checked(true, &[("host", bad)], false), Some(Code::HostRefused), "{bad}");
        }
        assert_eq!(checked(false, &[("host", "anything.example")], false), None, "others know their names");
        assert_eq!(checked(true, &[], false), None, "no browser leaves it out");
    }

    #[test]
    fn without_keys_no_name_that_can_be_pointed_here_is_answered() {
        let good = ["localhost", "127.0.0.1:8080", "172.18.0.5:8080", "[fd00::7]:8080", "8.8.8.8", "agents.example"];
        for host in good {
            assert_eq!(checked_open(false, true, &[("host", host)], true), None, "{host}");
        }
        let bad = ["evil.example", "api:8080", "172.18.0.5.evil.example", "2886860805", "0x7f.1", "[::1", "", "[]"];
        for host in bad {
            assert_eq!(checked_open(false, true, &[("host", host)], false), Some(Code::HostRefused), "{host}");
        }
        assert_eq!(checked_open(true, true, &[("host", "172.18.0.5")], false), Some(Code::HostRefused));
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let host = ("host", "localhost:8080");
        assert_eq!(checked(true, &[host, ("origin", "http://localhost:8080")], true), None);
        assert_eq!(checked(true, &[host, ("origin", "https://evil.example")], false), None, "reads are kept by CORS");
        for bad in ["https://evil.example", "null", "http://localhost:9", "http://localhost:8080.evil.example"] {
            assert_eq!(checked(true, &[host, ("origin", bad)], true), Some(Code::OriginRefused), "{bad}");
        }
        assert_eq!(checked(true, &[host, ("sec-fetch-site", "cross-site")], true), Some(Code::OriginRefused));
        assert_eq!(checked(true, &[host], true), None, "programs send neither");
    }
}
