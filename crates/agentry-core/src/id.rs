//! Ids: time-ordered UUIDs (version 7), so that B-trees grow at one end and lists sort by age.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected a UUID such as 0192f3a4-7c1e-7b2a-9d3c-5e6f708192a3")]
pub struct InvalidId(pub String);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Returns a new id from the operating system's clock and random source. Ids are names, not decisions; code
            /// under the seeded simulator uses [`Self::from_parts`].
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Returns an id of the given millisecond since the Unix epoch and random bits.
            #[must_use]
            pub fn from_parts(unix_millis: u64, random: u128) -> Self {
                let bytes = random.to_be_bytes();
                let mut tail = [0u8; 10];
                tail.copy_from_slice(&bytes[..10]);
                Self(uuid::Builder::from_unix_timestamp_millis(unix_millis, &tail).into_uuid())
            }

            /// Returns the 16 bytes, big-endian: their order is the order of creation.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Returns the id with these 16 bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId(text.chars().take(64).collect()))
            }
        }
    )*};
}

ids! {
    /// Id of a task.
    TaskId,
    /// Id of a process that executes tasks.
    WorkerId,
    /// Id of a call to a provider: the key of its ledger row.
    CallId,
    /// Id of a question to a human.
    ClarificationId,
    /// Id of an outbox message.
    OutboxId,
    /// Id of a dead letter.
    DeadLetterId,
    /// Public id of an API key.
    KeyId,
    /// Id of an entry of the audit log.
    AuditId,
}
