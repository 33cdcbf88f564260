//! A TCP proxy between one process and one server that delays, limits, corrupts, holds back, refuses and resets.
//!
//! Holding bytes back is a faithful partition for TCP because nothing that waits is acknowledged end to end; the end of
//! a connection is held back as bytes are. The proxy is out of the path wherever something is timed.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::shape::{Direction, Shape};

/// Bytes that are carried at once.
const CHUNK: usize = 16 * 1024;
/// Chunks on the way in each direction of a connection; a slow link stops reading beyond it.
const ON_THE_WAY: usize = 64;
/// Time limit of a connect to the far end, which is on this machine.
const CONNECT: Duration = Duration::from_secs(5);

/// Counts of what the proxy did: the evidence that a fault took effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes (and connections, as one byte each) that wanted to pass and were held back.
    pub held: u64,
    /// Chunks that were delayed, cut in pieces or corrupted.
    pub shaped: u64,
    /// Connections that were broken.
    pub cut: u64,
    /// Connections that were turned away.
    pub refused: u64,
    /// Bytes that passed.
    pub passed: u64,
}

/// A proxy on a free port of loopback. Open connections end with it.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    up: watch::Sender<Shape>,
    down: watch::Sender<Shape>,
    /// Counts resets; every connection ends when it changes.
    resets: watch::Sender<u64>,
    refuse: AtomicBool,
    seed: AtomicU64,
    counters: Mutex<Counters>,
}

impl FaultProxy {
    /// Listens on a free port of loopback and carries to `server`.
    ///
    /// # Errors
    /// Fails when there is no free port.
    pub async fn start(server: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            up: watch::Sender::new(Shape::default()),
            down: watch::Sender::new(Shape::default()),
            resets: watch::Sender::new(0),
            refuse: AtomicBool::new(false),
            seed: AtomicU64::new(seed),
            counters: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Returns the address clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on one direction has this shape.
    pub fn shape(&self, direction: Direction, shape: Shape) {
        self.shared.direction(direction).send_replace(shape);
    }

    /// From now on both directions have this shape.
    pub fn shape_both(&self, shape: Shape) {
        self.shape(Direction::Up, shape);
        self.shape(Direction::Down, shape);
    }

    /// From now on everything passes, what was held back first, and connections are taken again.
    pub fn heal(&self) {
        self.shared.refuse.store(false, Ordering::Relaxed);
        self.shape_both(Shape::default());
    }

    /// Breaks every open connection with a reset on both ends.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }

    /// From now on new connections are turned away.
    pub fn refuse(&self) {
        self.shared.refuse.store(true, Ordering::Relaxed);
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut seen = Counters::default();
        self.shared.count(|counters| seen = *counters);
        seen
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.reset();
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn direction(&self, direction: Direction) -> &watch::Sender<Shape> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// Waits while nothing passes in this direction.
    async fn passes(&self, direction: Direction, bytes: usize) {
        let mut shape = self.direction(direction).subscribe();
        if shape.borrow_and_update().black_hole {
            self.count(|counters| counters.held += bytes as u64);
        }
        // The sender lives as long as this.
        let _ = shape.wait_for(|shape| !shape.black_hole).await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // An error of accepting (no descriptors left) shows as a server that nobody reaches.
    while let Ok((client, _)) = listener.accept().await {
        if shared.refuse.load(Ordering::Relaxed) {
            shared.count(|counters| counters.refused += 1);
            break_off(&client);
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // It may be gone already.
            let _ = carry(client, &shared).await;
        });
    }
}

/// The end of a connection that its peer sees as a reset.
fn break_off(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

/// One connection, until both directions have ended or it is broken.
async fn carry(mut client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut resets = shared.resets.subscribe();
    resets.mark_unchanged();
    shared.passes(Direction::Up, 1).await;
    let mut server = tokio::time::timeout(CONNECT, TcpStream::connect(shared.server)).await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let broken = {
        // Halves that are borrowed: owned ones would end the connection in good order when they are dropped.
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, Direction::Up, shared);
        let down = pump(from_server, to_client, Direction::Down, shared);
        tokio::select! {
            _ = async { tokio::join!(up, down) } => false,
            _ = resets.changed() => true,
        }
    };
    if broken {
        break_off(&client);
        break_off(&server);
        shared.count(|counters| counters.cut += 1);
    }
    Ok(())
}

/// One direction, until its source ends or its sink takes nothing more; then the sink hears the end.
async fn pump(from: ReadHalf<'_>, to: WriteHalf<'_>, direction: Direction, shared: &Shared) {
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    tokio::join!(take_in(from, sender, direction, shared), give_out(to, receiver, direction, shared));
}

async fn take_in(
    mut from: ReadHalf<'_>,
    sender: mpsc::Sender<(Instant, Vec<u8>)>,
    direction: Direction,
    shared: &Shared,
) {
    let mut random = SmallRng::seed_from_u64(shared.seed.fetch_add(1, Ordering::Relaxed));
    let mut chunk = vec![0; CHUNK];
    let mut last = Instant::now();
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        let shape = *shared.direction(direction).borrow();
        let mut bytes = chunk[..read].to_vec();
        let delay = shape.delay(read, &mut random);
        let touched = shape.corrupt(&mut bytes, &mut random) || !delay.is_zero() || shape.slice > 0;
        shared.count(|counters| counters.shaped += u64::from(touched && read > 0));
        // Order is kept: nothing overtakes. A limited bandwidth counts from the end of the chunk before.
        let from_time = if shape.bandwidth > 0 { last.max(Instant::now()) } else { Instant::now() };
        last = last.max(from_time + delay);
        if sender.send((last, bytes)).await.is_err() || read == 0 {
            return;
        }
    }
}

async fn give_out(
    mut to: WriteHalf<'_>,
    mut receiver: mpsc::Receiver<(Instant, Vec<u8>)>,
    direction: Direction,
    shared: &Shared,
) {
    while let Some((due, bytes)) = receiver.recv().await {
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        shared.passes(direction, bytes.len().max(1)).await;
        let slice = shared.direction(direction).borrow().slice;
        let piece = if slice == 0 { bytes.len().max(1) } else { slice };
        let mut broken = bytes.is_empty();
        for piece in bytes.chunks(piece) {
            broken |= to.write_all(piece).await.is_err();
            if slice > 0 {
                tokio::task::yield_now().await;
            }
        }
        shared.count(|counters| counters.passed += bytes.len() as u64);
        if broken {
            break;
        }
    }
    // It may be gone already.
    let _ = to.shutdown().await;
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

    async fn both() -> (FaultProxy, TcpStream) {
        let proxy = FaultProxy::start(echo().await, 1).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(there_and_back(&mut stream, b'a').await.unwrap(), b'a');
        (proxy, stream)
    }

    async fn there_and_back(stream: &mut TcpStream, byte: u8) -> io::Result<u8> {
        stream.write_all(&[byte]).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_black_hole_holds_everything_back_and_loses_nothing() {
        let (proxy, mut stream) = both().await;
        assert_eq!(proxy.counters().held, 0);
        proxy.shape_both(Shape::black_hole());
        stream.write_all(b"b").await.unwrap();
        let mut late = TcpStream::connect(proxy.address()).await.unwrap();
        late.write_all(b"c").await.unwrap();
        while proxy.counters().held < 2 {
            tokio::task::yield_now().await;
        }
        let nothing = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        // What is on its way there arrives; the way back is held.
        proxy.shape(Direction::Up, Shape::default());
        assert!(tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await.is_err());
        proxy.heal();
        assert_eq!(stream.read_u8().await.unwrap(), b'b');
        assert_eq!(late.read_u8().await.unwrap(), b'c');
    }

    #[tokio::test]
    async fn a_reset_breaks_what_is_open_and_a_refusal_what_comes() {
        let (proxy, mut stream) = both().await;
        proxy.reset();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(proxy.counters().cut, 1);
        proxy.refuse();
        let mut late = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(there_and_back(&mut late, b'c').await.is_err());
        assert_eq!(proxy.counters().refused, 1);
        proxy.heal();
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(there_and_back(&mut again, b'd').await.unwrap(), b'd');
    }

    #[tokio::test]
    async fn latency_slices_and_corruption_are_counted() {
        let (proxy, mut stream) = both().await;
        let before = Instant::now();
        proxy.shape(Direction::Up, Shape::latency(Duration::from_millis(40), Duration::from_millis(10)));
        assert_eq!(there_and_back(&mut stream, b'e').await.unwrap(), b'e');
        assert!(before.elapsed() >= Duration::from_millis(40));
        proxy.shape_both(Shape { slice: 1, corrupt: 1.0, ..Shape::default() });
        stream.write_all(b"xyz").await.unwrap();
        let mut back = [0; 3];
        stream.read_exact(&mut back).await.unwrap();
        assert_ne!(&back, b"xyz");
        assert!(proxy.counters().shaped >= 2, "{:?}", proxy.counters());
    }

    #[tokio::test]
    async fn the_end_of_a_connection_passes() {
        let (_proxy, mut stream) = both().await;
        stream.write_all(b"last").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"last");
    }
}
