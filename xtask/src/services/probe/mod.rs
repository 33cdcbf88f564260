//! Whether a server answers in its own protocol, lets us in, and is new enough. Hand-written: a client library for
//! each would make this crate slow to build.

mod amqp;
pub mod postgres;
mod redis;

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::address::Address;
use super::service::Service;

/// How long a connection may take to be made; loopback needs microseconds.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take; RabbitMQ delays the refusal of a login on purpose.
const ANSWER: Duration = Duration::from_secs(5);
/// The largest message that is read: a server's greeting has a few hundred bytes.
pub(super) const LARGEST_MESSAGE: usize = 1 << 20;

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its version, where it could be asked.
    pub version: Option<String>,
    /// What could not be checked from here, and why.
    pub unchecked: Option<String>,
}

/// Asks a server. An error says in words why it is of no use.
pub fn ask(service: Service, url: &str) -> Result<Answer> {
    let address = Address::parse(url, service.standard_port())?;
    let stream = connect(&address)?;
    if address.wants_tls() {
        return Ok(Answer {
            version: None,
            unchecked: Some("it listens; what is behind TLS was not asked".to_owned()),
        });
    }
    let answer = match service {
        Service::Postgres => postgres::ask(stream, &address, url),
        Service::Redis => redis::ask(stream, &address),
        Service::Rabbitmq => amqp::ask(stream, &address),
    }
    .with_context(|| format!("{}:{}", address.host, address.port))?;
    if let Some(version) = &answer.version {
        service.check_version(version)?;
    }
    Ok(answer)
}

fn connect(address: &Address) -> Result<TcpStream> {
    let place = format!("{}:{}", address.host, address.port);
    let mut last = None;
    for candidate in (address.host.as_str(), address.port).to_socket_addrs().with_context(|| place.clone())? {
        match TcpStream::connect_timeout(&candidate, CONNECT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(ANSWER))?;
                stream.set_write_timeout(Some(ANSWER))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => bail!("nothing listens on {place} ({error})"),
        None => bail!("{} has no address", address.host),
    }
}

/// Both directions of a connection: a socket, or a recorded exchange in a test.
pub trait Link: Read + Write {}
impl<T: Read + Write> Link for T {}

/// Reads exactly so many bytes.
pub(super) fn bytes(link: &mut impl Link, count: usize) -> Result<Vec<u8>> {
    if count > LARGEST_MESSAGE {
        bail!("it announced a message of {count} bytes: something else listens there");
    }
    let mut buffer = vec![0; count];
    link.read_exact(&mut buffer).context("it closed the connection, or did not answer in time")?;
    Ok(buffer)
}

#[cfg(test)]
pub(super) mod recorded {
    use std::io::{self, Cursor, Read, Write};

    /// Plays a server's side of a conversation and keeps ours.
    pub struct Recorded {
        answers: Cursor<Vec<u8>>,
        pub sent: Vec<u8>,
    }

    impl Recorded {
        pub fn new(answers: &[u8]) -> Self {
            Self { answers: Cursor::new(answers.to_vec()), sent: Vec::new() }
        }
    }

    impl Read for Recorded {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.answers.read(buffer)
        }
    }

    impl Write for Recorded {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
