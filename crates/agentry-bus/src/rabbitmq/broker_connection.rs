//! A connection to the broker that can be cut at any time.
//!
//! The client library has no timeout for its handshake and keeps a thread per connection until the socket ends. A
//! second handle of the socket shuts it down, which ends the thread at once, also on a silent connection.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::tcp::AMQPUriTcpExt;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties};

use super::fault::{Fault, within};
use crate::listeners::lock;

/// TCP connect timeout. On a connection that drops packets the system retries after 1, 3 and 7 s; a new attempt retries at
/// once.
const REACH_TIMEOUT: Duration = Duration::from_secs(1);
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a clean close; after it the socket is cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct BrokerConnection {
    connection: Connection,
    socket: Socket,
}

/// A second handle of the socket that the client library owns.
#[derive(Debug, Default)]
struct Socket(Arc<Mutex<SocketHandle>>);

#[derive(Debug, Default)]
struct SocketHandle {
    stream: Option<TcpStream>,
    cut: bool,
}

impl Socket {
    fn cut(&self) {
        let mut hold = lock(&self.0);
        hold.cut = true;
        if let Some(stream) = hold.stream.take() {
            // The socket may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.cut();
    }
}

impl SocketHandle {
    fn keep(&mut self, stream: TcpStream) -> std::io::Result<()> {
        if self.cut {
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut));
        }
        self.stream = Some(stream);
        Ok(())
    }
}

impl BrokerConnection {
    /// Connects within [`OPEN_TIMEOUT`]. The broker's management shows `name`.
    pub async fn open(uri: AMQPUri, name: String) -> Result<Self, Fault> {
        let socket = Socket::default();
        let hold = Arc::clone(&socket.0);
        let runtime = lapin::runtime::default_runtime().map_err(|error| Fault::new(error.to_string()))?;
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let opening = Connection::connector(
            uri,
            runtime,
            async move |uri, runtime| {
                let reaching = tokio::time::timeout(REACH_TIMEOUT, uri.connect_async(&runtime));
                let stream = reaching.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    lock(&hold).keep(second_handle(plain.get_ref())?)?;
                }
                Ok(stream)
            },
            properties,
        );
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(connection)) => Ok(Self { connection, socket }),
            Ok(Err(error)) => Err(Fault::new(error.to_string())),
            Err(_) => Err(Fault::new(format!("no connection in {} s", OPEN_TIMEOUT.as_secs()))),
        }
    }

    pub async fn channel(&self) -> Result<Channel, Fault> {
        within("opening a channel", self.connection.create_channel()).await
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns true while the broker accepts nothing on this connection because it is short of memory or disk.
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    pub fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    pub fn cut(&self) {
        self.socket.cut();
    }

    pub async fn close(&self) {
        let closing = self.connection.close(200, "OK".into());
        if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, closing).await, Ok(Ok(()))) {
            tracing::debug!("RabbitMQ connection did not close cleanly and was cut");
        }
        self.cut();
    }
}

#[cfg(unix)]
fn second_handle(stream: &impl std::os::fd::AsFd) -> std::io::Result<TcpStream> {
    Ok(TcpStream::from(stream.as_fd().try_clone_to_owned()?))
}

#[cfg(windows)]
fn second_handle(stream: &impl std::os::windows::io::AsSocket) -> std::io::Result<TcpStream> {
    Ok(TcpStream::from(stream.as_socket().try_clone_to_owned()?))
}
