//! The engine against small servers of this file: its counts, its times, and latency through a halt of the server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Condvar, Mutex};

use super::super::caller::Fixed;
use super::super::wire::get;
use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Answers every request once the gate is open.
struct Server {
    address: SocketAddr,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Server {
    fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new((Mutex::new(true), Condvar::new()));
        let shared = Arc::clone(&gate);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, gate) = (stream.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                        let open = gate.0.lock().unwrap();
                        drop(gate.1.wait_while(open, |open| !*open).unwrap());
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, gate }
    }

    fn set(&self, open: bool) {
        *self.gate.0.lock().unwrap() = open;
        self.gate.1.notify_all();
    }
}

fn fixed() -> Fixed {
    Fixed(get("test", "/"))
}

#[tokio::test]
async fn every_arrival_of_the_plan_is_sent_and_answered() {
    let server = Server::start(ANSWER);
    let load = Load::open(server.address, 500.0, Duration::from_secs(1), 3);
    let planned = Arrivals::new(Spacing::Poisson, 500.0, Duration::from_secs(1), 3).count() as u64;
    let (seen, _) = start(load, fixed()).unwrap().end().await.unwrap();
    assert_eq!((seen.offered, seen.sent, seen.ok, seen.failed()), (planned, planned, planned, 0));
    assert_eq!((seen.latency.len(), seen.service.len(), seen.lag.len()), (planned, planned, planned));
    assert_eq!(seen.negative, 0);
    assert_eq!(seen.seconds.iter().map(|second| second.ok).sum::<u64>(), planned);
}

#[tokio::test]
async fn a_server_that_stops_is_seen_from_the_intended_moment() {
    let server = Server::start(ANSWER);
    let running = start(Load::open(server.address, 200.0, Duration::from_secs(2), 3), fixed()).unwrap();
    while running.live.ok.load(Ordering::Relaxed) < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.set(false);
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.set(true);
    let (seen, _) = running.end().await.unwrap();
    // About a quarter of all arrivals fell into the halt; a closed loop would have seen a few.
    assert!(seen.ms(0.99) > 400.0, "p99 {} ms", seen.ms(0.99));
    assert!(seen.ms(0.9) > 50.0, "p90 {} ms", seen.ms(0.9));
    assert_eq!(seen.offered, seen.ok);
}

#[tokio::test]
async fn an_answer_that_does_not_come_stays_in_the_percentiles() {
    let server = Server::start(ANSWER);
    server.set(false);
    let mut load = Load::open(server.address, 100.0, Duration::from_millis(300), 3);
    load.patience = Duration::from_millis(200);
    let (seen, _) = start(load, fixed()).unwrap().end().await.unwrap();
    assert_eq!((seen.ok, seen.failures.get("no answer in time").copied()), (0, Some(seen.offered)));
    assert!(seen.ms(0.5) >= 200.0, "{}", seen.ms(0.5));
    server.set(true);
}

#[tokio::test]
async fn too_many_in_flight_are_counted_and_not_sent() {
    let server = Server::start(ANSWER);
    server.set(false);
    let mut load = Load::open(server.address, 200.0, Duration::from_millis(500), 3);
    (load.max_in_flight, load.patience) = (10, Duration::from_millis(900));
    let (seen, _) = start(load, fixed()).unwrap().end().await.unwrap();
    assert_eq!(seen.sent, 10);
    assert_eq!(seen.capped, seen.offered - 10);
    assert!(seen.late_share() > 0.5);
    server.set(true);
}

#[tokio::test]
async fn refusals_and_failures_are_told_apart_and_warm_up_is_in_no_total() {
    let refusing = Server::start(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
    let load = Load::closed(refusing.address, 4, Duration::from_millis(100)).warm_up(Duration::from_millis(100));
    let (seen, _) = start(load, fixed()).unwrap().end().await.unwrap();
    assert!(seen.refused > 0 && seen.ok == 0 && seen.failed() == 0, "{seen:?}");
    assert!(seen.seconds.iter().map(|second| second.refused).sum::<u64>() > seen.refused);
    assert!(seen.peak_in_flight <= 4);
    let broken = Server::start(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let (seen, _) =
        start(Load::closed(broken.address, 2, Duration::from_millis(50)), fixed()).unwrap().end().await.unwrap();
    assert!(seen.failures["5xx"] > 0, "{seen:?}");
}

#[tokio::test]
async fn nobody_there_is_a_failure_of_each_request() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (seen, _) =
        start(Load::open(address, 100.0, Duration::from_millis(200), 3), fixed()).unwrap().end().await.unwrap();
    assert_eq!((seen.ok, seen.failed()), (0, seen.offered));
    assert!(seen.offered > 0);
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let server = Server::start(ANSWER);
    let running = start(Load::open(server.address, 100.0, Duration::from_secs(600), 3), fixed()).unwrap();
    running.live.stop();
    let (seen, _) = running.end().await.unwrap();
    assert!(seen.stopped);
}
