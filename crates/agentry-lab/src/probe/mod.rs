//! Checks that a server answers in its own protocol, accepts the login of its URL, and is new enough.

mod amqp;
mod postgres;
mod redis;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use postgres::execute;
pub(crate) use redis::ask as ask_redis;

use crate::{Address, LabError, Service};

/// Time limit of a connect; loopback needs microseconds.
const CONNECT: Duration = Duration::from_secs(2);
/// Time limit of an answer; RabbitMQ delays the refusal of a login on purpose.
const ANSWER: Duration = Duration::from_secs(5);
/// The largest message that is read: a server's greeting has a few hundred bytes.
const LARGEST_MESSAGE: usize = 1 << 20;

/// Answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its version, where it could be asked.
    pub version: Option<String>,
    /// Checks that were not possible, with the reason.
    pub unchecked: Option<&'static str>,
}

/// Reason why a server cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self(format!("it closed the connection, or did not answer in time: {error}"))
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// A connection: a socket, or a recorded exchange in a test.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for T {}

/// Asks a server whether it can be used.
///
/// # Errors
/// It cannot; with the reason in words.
pub async fn probe(service: Service, url: &str) -> Result<Answer, LabError> {
    let address = Address::parse(url, service.standard_port())?;
    let stream = connect(&address).await?;
    if address.wants_tls() {
        return Ok(Answer { version: None, unchecked: Some("it listens; what is behind TLS was not asked") });
    }
    let ask = async {
        match service {
            Service::Postgres => postgres::version(stream, url).await,
            Service::Redis => redis::version(stream, &address).await,
            Service::Rabbitmq => amqp::version(stream, &address).await,
        }
    };
    let late = || refuse(format!("it did not answer within {} s", ANSWER.as_secs()));
    let version = timeout(ANSWER, ask).await.unwrap_or_else(|_| late());
    let version = version.map_err(|Refusal(why)| unusable(&address, why))?;
    match &version {
        Some(version) if !service.supports(version) => {
            Err(unusable(&address, format!("it is version {version}; {} is needed", service.wanted())))
        }
        _ => Ok(Answer { version, unchecked: None }),
    }
}

fn unusable(address: &Address, why: String) -> LabError {
    LabError::Unusable { server: format!("{}:{}", address.host, address.port), why }
}

async fn connect(address: &Address) -> Result<TcpStream, LabError> {
    let connecting = timeout(CONNECT, TcpStream::connect((address.host.as_str(), address.port)));
    let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut));
    connecting.await.unwrap_or_else(late).map_err(|error| unusable(address, format!("nothing listens there ({error})")))
}

/// Reads exactly so many bytes.
async fn bytes(stream: &mut (impl AsyncRead + Unpin), count: usize) -> Result<Vec<u8>, Refusal> {
    if count > LARGEST_MESSAGE {
        return refuse(format!("it announced a message of {count} bytes: something else listens there"));
    }
    let mut buffer = vec![0; count];
    stream.read_exact(&mut buffer).await?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// Plays a server that has these answers and then waits: the client's end of the connection, and the server's.
    pub async fn waiting(answers: &[u8]) -> (DuplexStream, DuplexStream) {
        let (client, mut server) = duplex(1 << 16);
        server.write_all(answers).await.unwrap();
        (client, server)
    }

    /// The same, but a server that sends nothing more.
    pub async fn recorded(answers: &[u8]) -> (DuplexStream, DuplexStream) {
        let (client, mut server) = waiting(answers).await;
        server.shutdown().await.unwrap();
        (client, server)
    }

    /// Bytes the client has sent, once it has closed its end.
    pub async fn sent(mut server: DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).await.unwrap();
        bytes
    }
}
