//! A proxy between the bus and the broker that a test can cut.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::url;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Up,
    /// Closes connections, and new ones as soon as they are accepted.
    Closes,
    /// Closes connections and stops listening.
    Refuses,
    /// Accepts connections and bytes, and forwards nothing: the peer looks alive and is silent.
    Silent,
}

pub struct Proxy {
    pub url: String,
    wire: watch::Sender<Wire>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start() -> Self {
        let to = url().parse::<lapin::uri::AMQPUri>().unwrap();
        let broker = Arc::new(format!("{}:{}", to.authority.host, to.authority.port));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut through = to;
        through.authority.host = "127.0.0.1".to_owned();
        through.authority.port = listener.local_addr().unwrap().port();
        let wire = watch::Sender::new(Wire::Up);
        let task = tokio::spawn(run(listener, broker, wire.subscribe()));
        Self { url: through.to_string(), wire, task }
    }

    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listener: TcpListener, broker: Arc<String>, mut wire: watch::Receiver<Wire>) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        let now = *wire.borrow_and_update();
        if now == Wire::Refuses {
            listener = None;
            if wire.changed().await.is_err() {
                return;
            }
            continue;
        }
        if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.unwrap());
        }
        let Some(open) = &listener else { return };
        tokio::select! {
            accepted = open.accept() => if let Ok((client, _)) = accepted && now != Wire::Closes {
                tokio::spawn(carry(client, Arc::clone(&broker), wire.clone()));
            },
            changed = wire.changed() => if changed.is_err() { return },
        }
    }
}

async fn carry(client: TcpStream, broker: Arc<String>, mut wire: watch::Receiver<Wire>) {
    if !until_up(&mut wire).await {
        return;
    }
    let Ok(server) = TcpStream::connect(&*broker).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = copy(from_client, to_server, wire.clone()) => {}
        () = copy(from_server, to_client, wire) => {}
    }
}

/// Waits while the proxy is silent; returns true when it forwards then.
async fn until_up(wire: &mut watch::Receiver<Wire>) -> bool {
    wire.wait_for(|wire| *wire != Wire::Silent).await.is_ok_and(|wire| *wire == Wire::Up)
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>) {
    let mut buffer = vec![0; 64 * 1_024];
    loop {
        let count = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            changed = wire.changed() => match changed {
                Ok(()) if matches!(*wire.borrow_and_update(), Wire::Up | Wire::Silent) => continue,
                _ => return,
            },
        };
        if count == 0 || !until_up(&mut wire).await || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
