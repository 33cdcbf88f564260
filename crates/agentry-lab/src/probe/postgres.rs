//! PostgreSQL: the start-up exchange, and a plain statement for chores.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, NoTls};

use super::{Connection, Refusal, connect, refuse};
use crate::{Address, LabError};

/// Time limit of a chore.
const CHORE: Duration = Duration::from_secs(60);

pub(super) async fn version(stream: impl Connection, url: &str) -> Result<Option<String>, Refusal> {
    let (client, mut connection) = open(stream, url).await?;
    let version = connection.parameter("server_version").map(str::to_owned);
    drop(client);
    // Says goodbye; what becomes of it does not matter.
    let _ = std::future::poll_fn(|context| connection.poll_message(context)).await;
    Ok(version)
}

async fn open<S: Connection>(
    stream: S,
    url: &str,
) -> Result<(Client, tokio_postgres::Connection<S, NoTlsStream>), Refusal> {
    let Ok(config) = url.parse::<Config>() else { return refuse("its URL is not one of PostgreSQL's") };
    config.connect_raw(stream, NoTls).await.or_else(|error| refuse(complaint(&error)))
}

/// The words of the server where they are its, of the client where it is no PostgreSQL.
fn complaint(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(refusal) => format!("it refused: {}", refusal.message()),
        None => std::iter::successors(std::error::Error::source(error), |cause| cause.source())
            .fold(error.to_string(), |text, cause| format!("{text}: {cause}")),
    }
}

/// Runs one statement that returns nothing of interest.
///
/// # Errors
/// The server does not answer, or the statement fails.
pub async fn execute(url: &str, sql: &str) -> Result<(), LabError> {
    let address = Address::parse(url, 5432)?;
    let stream = connect(&address).await?;
    match timeout(CHORE, run(stream, url, sql)).await {
        Ok(ran) => ran.map_err(|Refusal(why)| LabError::Server(format!("`{sql}` failed: {why}"))),
        Err(_) => Err(LabError::TooLate { what: format!("`{sql}`"), seconds: CHORE.as_secs_f64() }),
    }
}

async fn run(stream: impl Connection, url: &str, sql: &str) -> Result<(), Refusal> {
    let (client, connection) = open(stream, url).await?;
    // Ends with the client.
    tokio::spawn(connection);
    client.batch_execute(sql).await.or_else(|error| refuse(complaint(&error)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::tests::{recorded, sent, waiting};
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    fn authentication(code: u32) -> Vec<u8> {
        message(b'R', &code.to_be_bytes())
    }

    const URL: &str = "postgres://me:pw@h/db";

    #[tokio::test]
    async fn it_is_asked_in_its_protocol() {
        let parameter = message(b'S', b"server_version\x0015.9 (Debian)\0");
        let (client, server) = waiting(&[authentication(0), parameter, message(b'Z', b"I")].concat()).await;
        let said = version(client, "postgres://me@h/db").await.unwrap();
        assert_eq!(said.as_deref(), Some("15.9 (Debian)"));
        let sent = sent(server).await;
        assert!(sent.ends_with(b"X\0\0\0\x04"), "it must say goodbye: {sent:?}");
        assert!(sent.windows(8).any(|window| window == b"user\0me\0"));
    }

    #[tokio::test]
    async fn a_plain_password_is_given_when_there_is_one() {
        let (client, server) = recorded(&[authentication(3), authentication(0), message(b'Z', b"I")].concat()).await;
        version(client, URL).await.unwrap();
        assert!(sent(server).await.windows(4).any(|window| window == b"\x07pw\0"));
        let (client, _server) = recorded(&authentication(3)).await;
        let error = version(client, "postgres://me@h/db").await.unwrap_err().to_string();
        assert!(error.contains("password"), "{error}");
    }

    #[tokio::test]
    async fn its_refusal_is_passed_on() {
        let refused = message(b'E', b"SFATAL\0C3D000\0Mdatabase \"db\" does not exist\0\0");
        let (client, _server) = recorded(&refused).await;
        let error = version(client, URL).await.unwrap_err().to_string();
        assert_eq!(error, "it refused: database \"db\" does not exist");
    }

    #[tokio::test]
    async fn something_else_on_the_port_is_refused() {
        for other in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"", b"R\0\0\0\0", b"-ERR unknown command\r\n"] {
            let (client, _server) = recorded(other).await;
            assert!(version(client, URL).await.is_err());
        }
    }

    /// Runs a statement on a server that answers it with this message.
    async fn run_on(answer: &[u8]) -> Result<(), Refusal> {
        let (client, mut server) = waiting(&[authentication(0), message(b'Z', b"I")].concat()).await;
        let answers = async {
            let mut asked = Vec::new();
            while !asked.ends_with(b"drop schema x\0") {
                server.read_buf(&mut asked).await.unwrap();
            }
            server.write_all(&[answer, &message(b'Z', b"I")].concat()).await.unwrap();
        };
        tokio::join!(run(client, URL, "drop schema x"), answers).0
    }

    #[tokio::test]
    async fn a_statement_that_fails_is_an_error() {
        let failed = run_on(&message(b'E', b"SERROR\0C3F000\0Mno such schema\0\0")).await;
        assert!(failed.unwrap_err().to_string().contains("no such schema"));
        assert!(run_on(&message(b'C', b"DROP SCHEMA\0")).await.is_ok());
    }
}
