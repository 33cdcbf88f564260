//! Overhead of the harness itself: requests over loopback to a server that does nothing, and the precision of timers and
//! syncs on this machine.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::thread::{ClockId, clock_nanosleep_absolute};

use super::error::RunError;
use crate::load::clock::{now, timespec};
use crate::load::{Fixed, Load, get, start};
use crate::stats::histogram;

const RATE: f64 = 500.0;
const SYNCS: usize = 200;
/// Bytes before each sync.
const PAGE: usize = 4_096;
/// Sleeps that are timed, and the length of each in nanoseconds.
const SLEEPS: usize = 200;
const SLEEP: u64 = 1_000_000;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Returns the 99th percentile in milliseconds of a request at [`RATE`] to a server that does nothing.
pub async fn of_requests(window: Duration, seed: u64) -> Result<f64, RunError> {
    let (address, stop) = nothing().map_err(|error| RunError::File { path: "loopback".into(), error })?;
    let load = Load::open(address, RATE, window, seed).warm_up(Duration::from_millis(200));
    let (seen, _) = start(load, Fixed(get("nothing", "/")))?.end().await?;
    stop.store(true, Ordering::Relaxed);
    Ok(seen.ms(0.99))
}

/// Starts a server that answers everything at once, each connection on a thread.
fn nothing() -> std::io::Result<(SocketAddr, Arc<AtomicBool>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    std::thread::Builder::new().name("nothing".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            let serve = move || {
                let mut buffer = [0; PAGE];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) && stream.write_all(ANSWER).is_ok() {}
            };
            if std::thread::Builder::new().spawn(serve).is_err() {
                return;
            }
        }
    })?;
    Ok((address, stop))
}

/// Returns the median and 99th percentile of an fdatasync after a page was written in `folder`, in microseconds.
pub fn of_syncs(folder: &Path) -> Option<(f64, f64)> {
    let path = folder.join("sync-probe");
    let mut file = File::create(&path).ok()?;
    let mut times = histogram_of_nanos();
    for _ in 0..SYNCS {
        file.write_all(&[7; PAGE]).ok()?;
        let began = Instant::now();
        file.sync_data().ok()?;
        times.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    // It is of no further use; what stays is in a folder of ours.
    let _ = std::fs::remove_file(&path);
    Some((times.value_at_quantile(0.5) as f64 / 1e3, times.value_at_quantile(0.99) as f64 / 1e3))
}

/// Returns the 99th percentile of the delay of a sleep of 1 ms, in microseconds.
pub fn of_timers() -> f64 {
    let mut times = histogram_of_nanos();
    for _ in 0..SLEEPS {
        let due = now() + SLEEP;
        let _ = clock_nanosleep_absolute(ClockId::Monotonic, &timespec(due));
        times.saturating_record(now().saturating_sub(due).max(1));
    }
    times.value_at_quantile(0.99) as f64 / 1e3
}

/// The bounds serve nanoseconds as well: up to 3.6 s.
fn histogram_of_nanos() -> Histogram<u64> {
    histogram()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_floor_of_this_machine_is_a_number() {
        let floor = of_requests(Duration::from_millis(300), 1).await.unwrap();
        assert!(floor > 0.0);
        let (median, p99) = of_syncs(&std::env::temp_dir()).unwrap();
        assert!(0.0 < median && median <= p99);
        assert!(of_timers() > 0.0);
    }
}
