//! Columns of a row of either backend.

use std::borrow::Cow;

use agentry_core::agent::{AgentName, ExecutionMode};
use agentry_core::id::{AuditId, CallId, ClarificationId, DeadLetterId, KeyId, OutboxId, TaskId, WorkerId};
use agentry_core::session::SessionId;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

/// A value that cannot be stored, or a column with unexpected content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) String);

impl From<Unreadable> for StoreError {
    fn from(Unreadable(detail): Unreadable) -> Self {
        Self::Broken(detail)
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self(format!("JSON of a row cannot be read: {error}"))
    }
}

/// Encodes a value as JSON.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String, Unreadable> {
    serde_json::to_string(value).map_err(|error| Unreadable(format!("a value cannot be written as JSON: {error}")))
}

/// Encodes several values as JSON.
pub(crate) fn all_to_json<'a, T: Serialize + 'a>(
    values: impl IntoIterator<Item = &'a T>,
) -> Result<Vec<String>, Unreadable> {
    values.into_iter().map(to_json).collect()
}

/// Decodes a value from JSON.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    Ok(serde_json::from_str(text)?)
}

/// An id of 16 bytes.
pub(crate) trait Id: Sized {
    fn of_bytes(bytes: [u8; 16]) -> Self;
}

macro_rules! ids {
    ($($id:ident),+) => {
        $(impl Id for $id {
            fn of_bytes(bytes: [u8; 16]) -> Self {
                Self::from_bytes(bytes)
            }
        })+
    };
}

ids!(AuditId, CallId, ClarificationId, DeadLetterId, KeyId, OutboxId, TaskId, WorkerId);

/// A row, read by the positions of its columns. `_or_none` is for nullable columns.
pub(crate) trait Columns {
    /// Failure of the backend.
    type Failure: From<Unreadable>;

    fn number_or_none(&self, at: usize) -> Result<Option<i64>, Self::Failure>;

    fn flag(&self, at: usize) -> Result<bool, Self::Failure>;

    fn bytes_or_none(&self, at: usize) -> Result<Option<[u8; 16]>, Self::Failure>;

    /// Returns the text as stored, for JSON and names without special characters.
    fn plain_or_none(&self, at: usize) -> Result<Option<&str>, Self::Failure>;

    /// Decodes the text of a column, which a backend may escape.
    fn unescaped<'a>(&self, column: &'a str) -> Cow<'a, str>;

    fn number(&self, at: usize) -> Result<i64, Self::Failure> {
        present(at, self.number_or_none(at)?)
    }

    /// Returns a number that is never negative.
    fn count<N: TryFrom<i64>>(&self, at: usize) -> Result<N, Self::Failure> {
        let number = self.number(at)?;
        N::try_from(number).map_err(|_| Unreadable(format!("{number} is not a count")).into())
    }

    /// Decodes an enum, called `what`, from its number.
    fn numbered<T>(&self, at: usize, what: &str, of: impl FnOnce(u8) -> Option<T>) -> Result<T, Self::Failure> {
        let number = self.number(at)?;
        let known = u8::try_from(number).ok().and_then(of);
        known.ok_or_else(|| Unreadable(format!("there is no {what} {number}")).into())
    }

    fn status(&self, at: usize) -> Result<TaskStatus, Self::Failure> {
        self.numbered(at, "task status", TaskStatus::from_number)
    }

    fn mode(&self, at: usize) -> Result<ExecutionMode, Self::Failure> {
        self.numbered(at, "execution mode", ExecutionMode::from_number)
    }

    fn time_or_none(&self, at: usize) -> Result<Option<Timestamp>, Self::Failure> {
        Ok(self.number_or_none(at)?.map(Timestamp))
    }

    fn time(&self, at: usize) -> Result<Timestamp, Self::Failure> {
        Ok(Timestamp(self.number(at)?))
    }

    fn id_or_none<I: Id>(&self, at: usize) -> Result<Option<I>, Self::Failure> {
        Ok(self.bytes_or_none(at)?.map(I::of_bytes))
    }

    fn id<I: Id>(&self, at: usize) -> Result<I, Self::Failure> {
        present(at, self.id_or_none(at)?)
    }

    fn plain(&self, at: usize) -> Result<&str, Self::Failure> {
        present(at, self.plain_or_none(at)?)
    }

    fn text_or_none<T: for<'a> From<Cow<'a, str>>>(&self, at: usize) -> Result<Option<T>, Self::Failure> {
        Ok(self.plain_or_none(at)?.map(|column| self.unescaped(column).into()))
    }

    fn text<T: for<'a> From<Cow<'a, str>>>(&self, at: usize) -> Result<T, Self::Failure> {
        present(at, self.text_or_none(at)?)
    }

    fn json_or_none<T: DeserializeOwned>(&self, at: usize) -> Result<Option<T>, Self::Failure> {
        Ok(self.plain_or_none(at)?.map(from_json).transpose()?)
    }

    fn json<T: DeserializeOwned>(&self, at: usize) -> Result<T, Self::Failure> {
        Ok(from_json(self.plain(at)?)?)
    }

    fn agent(&self, at: usize) -> Result<AgentName, Self::Failure> {
        AgentName::new(self.plain(at)?).map_err(|error| Unreadable(error.to_string()).into())
    }

    fn session_or_none(&self, at: usize) -> Result<Option<SessionId>, Self::Failure> {
        let read = |column: &str| {
            let session = SessionId::parse(&self.unescaped(column));
            session.ok_or_else(|| Unreadable(format!("`{column}` is not a session")).into())
        };
        self.plain_or_none(at)?.map(read).transpose()
    }

    fn session(&self, at: usize) -> Result<SessionId, Self::Failure> {
        present(at, self.session_or_none(at)?)
    }
}

fn present<T, F: From<Unreadable>>(at: usize, found: Option<T>) -> Result<T, F> {
    found.ok_or_else(|| Unreadable(format!("column {at} of a row is empty")).into())
}
