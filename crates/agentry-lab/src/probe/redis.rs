//! Redis: AUTH where the URL has a password, PING, and its version from INFO.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Connection, Refusal, bytes, refuse};
use crate::{Address, loopback};

/// Time limit of a command of [`ask`].
const ANSWER: Duration = Duration::from_secs(2);

pub(super) async fn version(mut stream: impl Connection, address: &Address) -> Result<Option<String>, Refusal> {
    if let Some(password) = &address.password {
        let user = address.user.as_deref().unwrap_or("default");
        expect(&call(&mut stream, &["AUTH", user, password]).await?, "+OK", "the login")?;
    }
    expect(&call(&mut stream, &["PING"]).await?, "+PONG", "PING")?;
    if !address.path.is_empty() {
        expect(&call(&mut stream, &["SELECT", &address.path]).await?, "+OK", "the database number")?;
    }
    let info = call(&mut stream, &["INFO", "server"]).await?;
    Ok(info.lines().find_map(|line| line.strip_prefix("redis_version:")).map(|text| text.trim().to_owned()))
}

/// Sends a command without spaces in its words to a server on this machine; returns the line of the answer, or its text
/// when it is a bulk string.
pub(crate) async fn ask(port: u16, command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let ask = async {
        let mut stream = TcpStream::connect(loopback(port)).await.ok()?;
        call(&mut stream, &words).await.ok()
    };
    timeout(ANSWER, ask).await.ok().flatten()
}

fn expect(reply: &str, expected: &str, what: &str) -> Result<(), Refusal> {
    if reply == expected {
        return Ok(());
    }
    refuse(format!("it answered {what} with `{}`", reply.chars().take(200).collect::<String>()))
}

/// Sends one command; returns a line as it came, or the body of a bulk reply.
async fn call(stream: &mut impl Connection, words: &[&str]) -> Result<String, Refusal> {
    let mut request = format!("*{}\r\n", words.len());
    request.extend(words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())));
    stream.write_all(request.as_bytes()).await?;
    let line = line(stream).await?;
    match line.strip_prefix('$').map(str::parse::<usize>) {
        Some(Ok(length)) => {
            let body = bytes(stream, length.saturating_add(2)).await?;
            Ok(String::from_utf8_lossy(&body[..length]).into_owned())
        }
        _ => Ok(line),
    }
}

/// Reads up to the end of a line; the first line of a reply is short.
async fn line(stream: &mut impl Connection) -> Result<String, Refusal> {
    const LONGEST: usize = 512;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST {
            return refuse("it does not speak Redis' protocol");
        }
        line.extend(bytes(stream, 1).await?);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{recorded, sent};
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url, 6379).unwrap()
    }

    #[tokio::test]
    async fn it_is_asked_in_its_protocol() {
        let info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        let (client, server) = recorded(format!("+OK\r\n+PONG\r\n${}\r\n{info}\r\n", info.len()).as_bytes()).await;
        assert_eq!(version(client, &address("redis://:pw@h")).await.unwrap().as_deref(), Some("7.0.15"));
        assert!(
            sent(server).await.starts_with(b"*3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$2\r\npw\r\n*1\r\n$4\r\nPING\r\n")
        );
    }

    #[tokio::test]
    async fn a_server_that_wants_a_password_is_refused() {
        let (client, _server) = recorded(b"-NOAUTH Authentication required.\r\n").await;
        assert!(version(client, &address("redis://h")).await.unwrap_err().to_string().contains("NOAUTH"));
    }

    #[tokio::test]
    async fn something_else_on_the_port_is_refused() {
        for other in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", &[b'x'; 2_000]] {
            let (client, _server) = recorded(other).await;
            assert!(version(client, &address("redis://h")).await.is_err());
        }
    }
}
