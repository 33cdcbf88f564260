//! Shaping of the bytes that pass a proxy.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Shaping of the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Shape {
    /// Added to every chunk.
    pub latency: Duration,
    /// At most so much more, evenly spread.
    pub jitter: Duration,
    /// Bytes per second at most; no limit when 0.
    pub bandwidth: u64,
    /// Nothing passes and nothing is lost: the cut that no socket reports.
    pub black_hole: bool,
    /// Chunks are cut into pieces of so many bytes; not when 0.
    pub slice: usize,
    /// Part of the chunks in which one byte is flipped, from 0 to 1.
    pub corrupt: f64,
}

impl Shape {
    /// A cut that stays connected.
    #[must_use]
    pub fn black_hole() -> Self {
        Self { black_hole: true, ..Self::default() }
    }

    /// A slow link.
    #[must_use]
    pub fn latency(latency: Duration, jitter: Duration) -> Self {
        Self { latency, jitter, ..Self::default() }
    }

    /// Returns the time a chunk of so many bytes is held back.
    pub(super) fn delay(&self, bytes: usize, random: &mut SmallRng) -> Duration {
        let jitter = if self.jitter.is_zero() { Duration::ZERO } else { self.jitter.mul_f64(random.random()) };
        let paced = if self.bandwidth == 0 { 0.0 } else { bytes as f64 / self.bandwidth as f64 };
        self.latency + jitter + Duration::from_secs_f64(paced)
    }

    /// Flips a byte now and then. Whether it did.
    pub(super) fn corrupt(&self, chunk: &mut [u8], random: &mut SmallRng) -> bool {
        let hit = !chunk.is_empty() && self.corrupt > 0.0 && random.random_bool(self.corrupt.min(1.0));
        if hit {
            let at = random.random_range(0..chunk.len());
            chunk[at] ^= 0x55;
        }
        hit
    }
}
