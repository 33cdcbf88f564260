//! Ids: time-ordered UUIDs (version 7), so that B-trees grow at one end and lists sort by age.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected a UUID such as 0192f3a4-7c1e-7b2a-9d3c-5e6f708192a3")]
pub struct InvalidId(pub String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id from the operating system's clock and random source. Ids are names, not decisions;
            /// code under the seeded simulator uses [`Self::from_parts`].
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// An id of the given millisecond since the Unix epoch and random bits.
            #[must_use]
            pub fn from_parts(unix_millis: u64, random: u128) -> Self {
                let bytes = random.to_be_bytes();
                let mut tail = [0u8; 10];
                tail.copy_from_slice(&bytes[..10]);
                Self(uuid::Builder::from_unix_timestamp_millis(unix_millis, &tail).into_uuid())
            }

            /// The 16 bytes, big-endian: their order is the order of creation.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these 16 bytes.
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
    };
}

id!(
    /// What was asked, once.
    TaskId
);
id!(
    /// A process (or slot of one) that executes tasks.
    WorkerId
);
id!(
    /// One call to a provider: the key of its ledger row.
    CallId
);
id!(
    /// One question to a human.
    ClarificationId
);
id!(
    /// One message that waits in the outbox.
    OutboxId
);
id!(
    /// One thing that was given up.
    DeadLetterId
);
id!(
    /// An API key; not its secret.
    KeyId
);
id!(
    /// One line of the audit log.
    AuditId
);
