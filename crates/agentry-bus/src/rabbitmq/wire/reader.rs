//! Decoding of numbers, ids and texts from untrusted bytes.

use agentry_core::id::TaskId;

/// Errors of decoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::rabbitmq) enum WireError {
    #[error("the message ends too early")]
    Short,
    #[error("the message has version {0}, which this version of Agentry cannot read")]
    Version(u8),
    #[error("the message has a bad {0}")]
    Field(&'static str),
}

/// The remaining bytes.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn version(&mut self) -> Result<(), WireError> {
        match self.u8()? {
            super::VERSION => Ok(()),
            other => Err(WireError::Version(other)),
        }
    }

    pub fn task(&mut self) -> Result<TaskId, WireError> {
        self.array().map(TaskId::from_bytes)
    }

    /// Reads bytes with a 16-bit length.
    pub fn short(&mut self) -> Result<&'a [u8], WireError> {
        let count = u16::from_le_bytes(self.array()?);
        self.bytes(usize::from(count))
    }

    /// Reads bytes with a 32-bit length.
    pub fn long(&mut self) -> Result<&'a [u8], WireError> {
        let count = u32::from_le_bytes(self.array()?);
        self.bytes(count as usize)
    }
}

/// Writes bytes with a 16-bit length; bytes that do not fit are left out.
pub(super) fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let fits = u16::try_from(bytes.len()).ok();
    out.extend(fits.unwrap_or(0).to_le_bytes());
    if fits.is_some() {
        out.extend(bytes);
    }
}

/// Writes bytes with a 32-bit length; bytes that do not fit are left out.
pub(super) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let fits = u32::try_from(bytes.len()).ok();
    out.extend(fits.unwrap_or(0).to_le_bytes());
    if fits.is_some() {
        out.extend(bytes);
    }
}
