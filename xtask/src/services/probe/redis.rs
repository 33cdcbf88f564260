//! Redis: AUTH where the URL has a password, PING, and its version from INFO.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::super::address::Address;
use super::{Answer, Link, bytes};

pub fn ask(mut link: impl Link, address: &Address) -> Result<Answer> {
    if let Some(password) = &address.password {
        let user = address.user.as_deref().unwrap_or("default");
        expect(&call(&mut link, &["AUTH", user, password])?, "+OK", "the login")?;
    }
    expect(&call(&mut link, &["PING"])?, "+PONG", "PING")?;
    if !address.path.is_empty() {
        expect(&call(&mut link, &["SELECT", &address.path])?, "+OK", "the database number")?;
    }
    let info = call(&mut link, &["INFO", "server"])?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).map(|text| text.trim().to_owned());
    Ok(Answer { version, unchecked: None })
}

fn expect(reply: &str, wanted: &str, what: &str) -> Result<()> {
    if reply != wanted {
        bail!("it answered {what} with `{}`", reply.chars().take(200).collect::<String>());
    }
    Ok(())
}

/// One command; a line as it came, or the body of a bulk reply.
fn call(link: &mut impl Link, words: &[&str]) -> Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        // Writing to a `String` cannot fail.
        let _ = write!(request, "${}\r\n{word}\r\n", word.len());
    }
    link.write_all(request.as_bytes())?;
    let line = line(link)?;
    match line.strip_prefix('$').map(str::parse::<usize>) {
        Some(Ok(length)) => {
            let body = bytes(link, length.saturating_add(2))?;
            Ok(String::from_utf8_lossy(&body[..length]).into_owned())
        }
        _ => Ok(line),
    }
}

/// Up to the end of a line; a reply's first line is short.
fn line(link: &mut impl Link) -> Result<String> {
    const LONGEST: usize = 512;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST {
            bail!("it does not speak Redis' protocol");
        }
        line.extend(bytes(link, 1)?);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url, 6379).unwrap()
    }

    #[test]
    fn it_is_asked_in_its_protocol() {
        let info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        let mut server = Recorded::new(format!("+OK\r\n+PONG\r\n${}\r\n{info}\r\n", info.len()).as_bytes());
        let answer = ask(&mut server, &address("redis://:pw@h")).unwrap();
        assert_eq!(answer, Answer { version: Some("7.0.15".to_owned()), unchecked: None });
        assert!(server.sent.starts_with(b"*3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$2\r\npw\r\n*1\r\n$4\r\nPING\r\n"));
    }

    #[test]
    fn a_server_that_wants_a_password_is_refused() {
        let server = Recorded::new(b"-NOAUTH Authentication required.\r\n");
        assert!(ask(server, &address("redis://h")).unwrap_err().to_string().contains("NOAUTH"));
    }

    #[test]
    fn something_else_on_the_port_is_refused() {
        assert!(ask(Recorded::new(b"HTTP/1.1 400 Bad Request\r\n\r\n"), &address("redis://h")).is_err());
        assert!(ask(Recorded::new(b""), &address("redis://h")).is_err());
        assert!(ask(Recorded::new(&[b'x'; 2_000]), &address("redis://h")).is_err());
    }
}
