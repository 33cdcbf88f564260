//! A source of randomness that the caller provides.

/// A source of random numbers, so that a test can control them.
pub trait Entropy: Send + Sync + 'static {
    /// Returns the next 64 random bits.
    fn next(&self) -> u64;
}

/// The random numbers of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn next(&self) -> u64 {
        rand::random()
    }
}
