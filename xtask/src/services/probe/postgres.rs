//! PostgreSQL: the start-up exchange up to "ready for query", and a plain query for chores.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::super::address::Address;
use super::{Answer, Link, bytes, connect};
use crate::process::output_within;

/// Version 3.0 of the protocol.
const PROTOCOL: u32 = 196_608;
/// How long psql may take for one question.
const PSQL: Duration = Duration::from_secs(10);

/// What the server wants before it lets us in, or that it has.
enum Door {
    Open {
        version: Option<String>,
    },
    /// A challenge that needs cryptography; psql has it.
    Challenge,
}

pub fn ask(mut link: impl Link, address: &Address, url: &str) -> Result<Answer> {
    match enter(&mut link, address)? {
        Door::Open { version } => {
            link.write_all(&message(b'X', &[]))?;
            Ok(Answer { version, unchecked: None })
        }
        Door::Challenge => ask_psql(url),
    }
}

/// Runs one statement that returns nothing of interest.
pub fn execute(url: &str, sql: &str) -> Result<()> {
    let address = Address::parse(url, 5432)?;
    let mut link = connect(&address)?;
    match enter(&mut link, &address)? {
        Door::Open { .. } => query(&mut link, sql),
        Door::Challenge => psql(url, sql).map(drop).context("the server asks for a password that only psql can give"),
    }
}

fn enter(link: &mut impl Link, address: &Address) -> Result<Door> {
    link.write_all(&startup(address))?;
    let mut version = None;
    loop {
        let (kind, body) = read(link)?;
        match kind {
            b'R' => match u32::from_be_bytes(body.get(..4).context("a short answer")?.try_into()?) {
                0 => {}
                3 => {
                    let password = address.password.as_deref().context("it asks for a password; the URL has none")?;
                    link.write_all(&message(b'p', format!("{password}\0").as_bytes()))?;
                }
                _ if address.password.is_none() => bail!("it asks for a password; the URL has none"),
                _ => return Ok(Door::Challenge),
            },
            b'S' => version = version.or_else(|| parameter(&body, "server_version")),
            b'Z' => return Ok(Door::Open { version }),
            b'E' => bail!("it refused: {}", complaint(&body)),
            b'K' | b'N' => {}
            _ => bail!("it does not speak PostgreSQL's protocol"),
        }
    }
}

fn startup(address: &Address) -> Vec<u8> {
    let user = address.user.as_deref().unwrap_or("postgres");
    let database = if address.path.is_empty() { user } else { &address.path };
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    body.extend(format!("user\0{user}\0database\0{database}\0application_name\0xtask\0\0").as_bytes());
    let mut all = length(body.len()).to_vec();
    all.extend(body);
    all
}

fn query(link: &mut impl Link, sql: &str) -> Result<()> {
    link.write_all(&message(b'Q', format!("{sql}\0").as_bytes()))?;
    let mut failed = None;
    loop {
        let (kind, body) = read(link)?;
        match kind {
            b'E' => failed = Some(complaint(&body)),
            b'Z' => break,
            _ => {}
        }
    }
    link.write_all(&message(b'X', &[]))?;
    failed.map_or(Ok(()), |complaint| bail!("`{sql}` failed: {complaint}"))
}

/// A length counts itself.
fn length(body: usize) -> [u8; 4] {
    u32::try_from(body + 4).unwrap_or(u32::MAX).to_be_bytes()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &length(body.len())[..], body].concat()
}

fn read(link: &mut impl Link) -> Result<(u8, Vec<u8>)> {
    let head = bytes(link, 5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let length = usize::try_from(length)?.checked_sub(4).context("it does not speak PostgreSQL's protocol")?;
    Ok((head[0], bytes(link, length)?))
}

/// The value of `name` when this parameter is it.
fn parameter(body: &[u8], name: &str) -> Option<String> {
    let mut parts = body.split(|byte| *byte == 0);
    (parts.next()? == name.as_bytes()).then(|| String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned())
}

/// The message field of an error.
fn complaint(body: &[u8]) -> String {
    body.split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(b"M"))
        .map_or_else(|| "no reason given".to_owned(), |text| String::from_utf8_lossy(text).into_owned())
}

fn ask_psql(url: &str) -> Result<Answer> {
    if crate::place::executable("psql", &[]).is_none() {
        let unchecked = "it asks for a password, which was not tried: psql is not installed".to_owned();
        return Ok(Answer { version: None, unchecked: Some(unchecked) });
    }
    let version = psql(url, "show server_version")?;
    Ok(Answer { version: Some(version.trim().to_owned()), unchecked: None })
}

/// The URL goes through the environment: a command line is visible to every process of a machine.
fn psql(url: &str, sql: &str) -> Result<String> {
    let script = "exec psql \"$AGENTRY_ASKED_URL\" -X -A -t -v ON_ERROR_STOP=1 -c \"$1\"";
    output_within(Command::new("sh").args(["-c", script, "sh", sql]).env("AGENTRY_ASKED_URL", url), PSQL)
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url, 5432).unwrap()
    }

    fn authentication(code: u32) -> Vec<u8> {
        message(b'R', &code.to_be_bytes())
    }

    const URL: &str = "postgres://me:pw@h/db";

    #[test]
    fn it_is_asked_in_its_protocol() {
        let version = message(b'S', b"server_version\x0015.9 (Debian)\0");
        let mut server = Recorded::new(&[authentication(0), version, message(b'Z', b"I")].concat());
        let answer = ask(&mut server, &address("postgres://me@h/db"), "").unwrap();
        assert_eq!(answer.version.as_deref(), Some("15.9 (Debian)"));
        assert!(server.sent.ends_with(b"X\0\0\0\x04"), "it must say goodbye");
        assert!(server.sent.windows(11).any(|window| window == b"user\0me\0dat"));
    }

    #[test]
    fn a_plain_password_is_given_when_there_is_one() {
        let mut server = Recorded::new(&[authentication(3), authentication(0), message(b'Z', b"I")].concat());
        assert!(matches!(enter(&mut server, &address(URL)).unwrap(), Door::Open { .. }));
        assert!(server.sent.windows(4).any(|window| window == b"pw\0" || window == b"\x07pw\0"));
        let wanted = Recorded::new(&authentication(10));
        assert!(
            ask(wanted, &address("postgres://me@h/db"), "").unwrap_err().to_string().contains("asks for a password")
        );
        let mut challenge = Recorded::new(&authentication(10));
        assert!(matches!(enter(&mut challenge, &address(URL)).unwrap(), Door::Challenge));
    }

    #[test]
    fn its_refusal_is_passed_on() {
        let refused = message(b'E', b"SFATAL\0C3D000\0Mdatabase \"db\" does not exist\0\0");
        let error = ask(Recorded::new(&refused), &address(URL), "").unwrap_err().to_string();
        assert_eq!(error, "it refused: database \"db\" does not exist");
    }

    #[test]
    fn something_else_on_the_port_is_refused() {
        for other in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"", b"R\0\0\0\0", b"-ERR unknown command\r\n"] {
            assert!(ask(Recorded::new(other), &address(URL), "").is_err());
        }
    }

    #[test]
    fn a_statement_that_fails_is_an_error() {
        let failed = [message(b'E', b"Mno such schema\0\0"), message(b'Z', b"I")].concat();
        assert!(
            query(&mut Recorded::new(&failed), "drop schema x").unwrap_err().to_string().contains("no such schema")
        );
        let done = [message(b'C', b"DROP SCHEMA\0"), message(b'Z', b"I")].concat();
        assert!(query(&mut Recorded::new(&done), "drop schema x").is_ok());
    }
}
