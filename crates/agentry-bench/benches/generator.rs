//! Capacity of the load generator alone: the closed loop's rate against a server that does nothing, and the delay of the
//! open loop's sends are at set rates. `cargo bench -p agentry-bench --bench generator`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a figure, not a part of the suite")]

use std::net::SocketAddr;
use std::time::Duration;

use agentry_bench::load::{self, Fixed, Load};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const WINDOW: Duration = Duration::from_secs(5);
const CALLERS: usize = 64;

/// Answers every request, on one thread of its own.
fn server() -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        if stream.write_all(ANSWER).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    receiver.recv().unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let target = server();
    let request = || Fixed(load::post("127.0.0.1", "/v1/tasks", "{\"agent\":\"noop\",\"input\":\"a task\"}"));
    for _ in 0..3 {
        let (seen, _) = load::start(Load::closed(target, CALLERS, WINDOW), request()).unwrap().end().await.unwrap();
        println!("closed loop, {CALLERS} callers: {:.0} requests/s", seen.rate());
    }
    for rate in [500.0, 10_000.0, 30_000.0] {
        let (seen, _) = load::start(Load::open(target, rate, WINDOW, 7), request()).unwrap().end().await.unwrap();
        println!(
            "open loop, {rate:.0}/s: {:.0}/s answered; lag p50 {} µs, p99 {} µs, p99.9 {} µs, {} late; latency p50 {:.3} ms, p99 {:.3} ms",
            seen.rate(),
            seen.lag.value_at_quantile(0.5),
            seen.lag.value_at_quantile(0.99),
            seen.lag.value_at_quantile(0.999),
            seen.late,
            seen.ms(0.5),
            seen.ms(0.99)
        );
    }
}
