//! One connection to the broker that can be cut from our side.
//!
//! The client library has no bound on its handshake and keeps a thread for a connection until the socket ends. So the
//! socket is kept at hand, and shut down whenever we give up: the thread ends at once, on a silent link too.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::tcp::AMQPUriTcpExt;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties};

use super::fault::{Fault, within};
use crate::listeners::lock;

/// The time for the first packet to come back. On a link that drops everything the system asks again after 1, 3 and 7 s;
/// a new attempt asks at once.
const REACH_TIMEOUT: Duration = Duration::from_secs(1);
/// The time to reach the broker and to agree on a connection.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for a clean end; after it the socket is cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection. Cut when dropped.
pub(super) struct Link {
    connection: Connection,
    socket: Socket,
}

/// Our hand on the socket of a connection that the client library owns.
#[derive(Debug, Default)]
struct Socket(Arc<Mutex<Hold>>);

#[derive(Debug, Default)]
struct Hold {
    stream: Option<TcpStream>,
    cut: bool,
}

impl Socket {
    fn cut(&self) {
        let mut hold = lock(&self.0);
        hold.cut = true;
        if let Some(stream) = hold.stream.take() {
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Hold {
    fn keep(&mut self, stream: TcpStream) -> std::io::Result<()> {
        if self.cut {
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut));
        }
        self.stream = Some(stream);
        Ok(())
    }
}

impl Link {
    /// Connects within [`OPEN_TIMEOUT`]. `name` is what the broker's operators see.
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

    /// A new channel.
    pub async fn channel(&self) -> Result<Channel, Fault> {
        within("opening a channel", self.connection.create_channel()).await
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether the broker takes nothing on this connection for now, because it is short of memory or disk.
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    pub fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Ends it now: everything that waits on it fails.
    pub fn cut(&self) {
        self.socket.cut();
    }

    /// Ends it after what was sent before, within [`CLOSE_TIMEOUT`].
    pub async fn close(&self) {
        let closing = self.connection.close(200, "OK".into());
        if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, closing).await, Ok(Ok(()))) {
            tracing::debug!("a connection to RabbitMQ did not end cleanly; it is cut");
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
