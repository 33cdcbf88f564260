//! Randomness that comes from the caller.

/// A source of random numbers, so that a test can own them.
pub trait Entropy: Send + Sync + 'static {
    /// Returns the next 64 random bits.
    fn next(&self) -> u64;
}

/// Random numbers of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn next(&self) -> u64 {
        rand::random()
    }
}
