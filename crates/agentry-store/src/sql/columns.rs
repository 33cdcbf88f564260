//! Columns of a row, whichever backend it comes from.

use std::borrow::Cow;

use agentry_core::agent::{AgentName, ExecutionMode};
use agentry_core::id::{AuditId, CallId, ClarificationId, DeadLetterId, KeyId, OutboxId, TaskId, WorkerId};
use agentry_core::session::SessionId;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

/// A value that cannot be kept, or a column that does not hold what it should.
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

/// JSON text of a value.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String, Unreadable> {
    serde_json::to_string(value).map_err(|error| Unreadable(format!("a value cannot be written as JSON: {error}")))
}

/// JSON texts of several values.
pub(crate) fn all_to_json<'a, T: Serialize + 'a>(
    values: impl IntoIterator<Item = &'a T>,
) -> Result<Vec<String>, Unreadable> {
    values.into_iter().map(to_json).collect()
}

/// The value of a JSON text.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    Ok(serde_json::from_str(text)?)
}

/// An id of 16 bytes.
pub(crate) trait Id: Sized {
    /// The id with these bytes.
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

/// A row, read by the places of its columns. `_or_none` is for columns that may be NULL.
pub(crate) trait Columns {
    /// The failure of the backend.
    type Failure: From<Unreadable>;

    fn number_or_none(&self, at: usize) -> Result<Option<i64>, Self::Failure>;

    fn flag(&self, at: usize) -> Result<bool, Self::Failure>;

    fn bytes_or_none(&self, at: usize) -> Result<Option<[u8; 16]>, Self::Failure>;

    /// JSON, and names that hold no odd characters: as they stand in the column.
    fn plain_or_none(&self, at: usize) -> Result<Option<&str>, Self::Failure>;

    /// The text that a column stands for. A backend may keep it escaped.
    fn unescaped<'a>(&self, column: &'a str) -> Cow<'a, str>;

    fn number(&self, at: usize) -> Result<i64, Self::Failure> {
        present(at, self.number_or_none(at)?)
    }

    /// A number that is never negative.
    fn count<N: TryFrom<i64>>(&self, at: usize) -> Result<N, Self::Failure> {
        let number = self.number(at)?;
        N::try_from(number).map_err(|_| Unreadable(format!("{number} is not a count")).into())
    }

    /// A number that stands for one of a few `what`.
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
