//! Where a request may come from. A server of this machine only answers to names of this machine: otherwise a web page
//! could point its own name at 127.0.0.1 and read through the visitor's browser. Writes that a browser sends on behalf
//! of another site are refused, whatever cookie they carry.

use axum::http::{HeaderMap, Uri, header};

use super::Access;
use crate::problem::{Code, Problem};

/// Characters of a header that an error repeats.
const SHOWN: usize = 80;

/// The name in an authority, in lower case, without its port.
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

/// What the request says it was sent to: the `Host` header, or HTTP/2's `:authority`.
fn host<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    let header = headers.get(header::HOST).map(|value| value.to_str().unwrap_or("?"));
    header.or_else(|| uri.authority().map(|authority| authority.as_str()))
}

/// Checks `Host`, and for writes `Origin` and `Sec-Fetch-Site`.
pub(crate) fn check(access: &Access, headers: &HeaderMap, uri: &Uri, writes: bool) -> Result<(), Problem> {
    let host = host(headers, uri);
    if let Some(host) = host.filter(|_| access.loopback) {
        let name = name_of(host);
        if !is_this_machine(&name) && !access.hosts.contains(&name) {
            let shown: String = host.chars().take(SHOWN).collect();
            let detail = format!(
                "`Host` is `{shown}`, and this server listens on this machine only: use localhost, or name the host in \
                 AGENTRY_ALLOWED_HOSTS when a proxy stands before it"
            );
            return Err(Problem::new(Code::HostRefused, detail));
        }
    }
    if !writes {
        return Ok(());
    }
    let text = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or("?"));
    let foreign = match text(header::ORIGIN) {
        Some(origin) => origin.split_once("://").map(|(_, authority)| authority) != host,
        None => text(header::HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "cross-site"),
    };
    if foreign {
        let shown: String = text(header::ORIGIN).unwrap_or("another site").chars().take(SHOWN).collect();
        let detail = format!("a page of {shown} may not change anything here: open the dashboard of this server");
        return Err(Problem::new(Code::OriginRefused, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(loopback: bool, pairs: &[(&'static str, &str)], writes: bool) -> Option<Code> {
        let access = Access { loopback, hosts: vec!["agents.example".to_owned()], ..Access::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        check(&access, &headers, &Uri::from_static("/v1/tasks"), writes).err().map(|problem| problem.code)
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
