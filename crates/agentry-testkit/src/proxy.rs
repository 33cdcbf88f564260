//! A TCP proxy that can fall silent: the cut that no socket reports.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes that are carried at once; while the link is cut, so many are taken in each direction of a connection.
const CHUNK: usize = 16 * 1024;
/// How long the far end may take to accept a connection: it is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Stands between clients and a server on this machine. Cut, it stays connected to both and carries nothing, neither
/// bytes nor the end of a connection; new connections open and stay silent. Healed, everything held back arrives.
///
/// It ends with this value; open connections end with it.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    cut: watch::Sender<bool>,
    end: watch::Sender<bool>,
    held: AtomicU64,
}

impl FaultProxy {
    /// Listens on a free port of loopback and carries to `server`.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            cut: watch::Sender::new(false),
            end: watch::Sender::new(false),
            held: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing passes.
    pub fn cut(&self) {
        self.shared.cut.send_replace(true);
    }

    /// From now on everything passes, what was held back first.
    pub fn heal(&self) {
        self.shared.cut.send_replace(false);
    }

    /// How often something wanted to pass and was held back: bytes, and connections that were opened in vain.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.end.send_replace(true);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // An error of accepting (no descriptors left) shows as a server that nobody reaches.
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut end = shared.end.subscribe();
            tokio::select! {
                _ = carry(client, &shared) => {}
                _ = end.wait_for(|ended| *ended) => {}
            }
        });
    }
}

/// One connection, until both directions have ended.
async fn carry(client: TcpStream, shared: &Shared) -> io::Result<()> {
    shared.passes(1).await;
    let server = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(shared.server)).await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(pump(from_client, to_server, shared), pump(from_server, to_client, shared));
    Ok(())
}

/// One direction, until its source ends or its sink takes nothing more; then the sink hears the end.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        shared.passes(read.max(1)).await;
        if read == 0 || to.write_all(&chunk[..read]).await.is_err() {
            break;
        }
    }
    // It may be gone already.
    let _ = to.shutdown().await;
}

impl Shared {
    /// Waits while the link is cut.
    async fn passes(&self, bytes: usize) {
        let mut cut = self.cut.subscribe();
        if *cut.borrow_and_update() {
            self.held.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        // The sender lives as long as this.
        let _ = cut.wait_for(|cut| !*cut).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte with the same byte.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_cut_holds_everything_back_and_loses_nothing() {
        let proxy = FaultProxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"a").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'a');
        assert_eq!(proxy.held(), 0);

        proxy.cut();
        stream.write_all(b"b").await.unwrap();
        let mut late = TcpStream::connect(proxy.address()).await.unwrap();
        late.write_all(b"c").await.unwrap();
        while proxy.held() < 2 {
            tokio::task::yield_now().await;
        }
        let nothing = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(nothing.is_err(), "{nothing:?}");

        proxy.heal();
        assert_eq!(stream.read_u8().await.unwrap(), b'b');
        assert_eq!(late.read_u8().await.unwrap(), b'c');
    }

    #[tokio::test]
    async fn the_end_of_a_connection_passes() {
        let proxy = FaultProxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"last").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"last");
        drop(proxy);
    }
}
