//! A TCP link to a server that can be slow or cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A wire to a server that passes bytes late, or silently passes none.
pub struct Wire {
    port: u16,
    shape: Arc<Shape>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shape {
    cut: AtomicBool,
    /// Each piece waits for a time up to this.
    late_ms: AtomicU64,
}

impl Wire {
    /// A wire to a server.
    pub async fn to(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (own, shape) = (listener.local_addr().unwrap().port(), Arc::new(Shape::default()));
        let task = tokio::spawn(serve(listener, (host.to_owned(), port), Arc::clone(&shape)));
        Self { port: own, shape, task }
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes nothing any more, in neither direction; connections stay.
    pub fn cut(&self, cut: bool) {
        self.shape.cut.store(cut, Ordering::SeqCst);
    }

    /// Passes every piece after a time of up to `most`, in order.
    pub fn delay(&self, most: Duration) {
        self.shape.late_ms.store(u64::try_from(most.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, server: (String, u16), shape: Arc<Shape>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { return };
        let Ok(far) = TcpStream::connect(server.clone()).await else { continue };
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        tokio::spawn(pass(near_read, far_write, Arc::clone(&shape)));
        tokio::spawn(pass(far_read, near_write, Arc::clone(&shape)));
    }
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, shape: Arc<Shape>) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut piece).await
        && count > 0
    {
        while shape.cut.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let most = shape.late_ms.load(Ordering::SeqCst);
        if most > 0 {
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..=most))).await;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
