//! Rows in the form that both sides share, and the checksum of a table: the sum of its rows' hashes, in any order.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// Type of a column, and with it how each side writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnType {
    /// 16 bytes; `uuid` in PostgreSQL.
    Id,
    /// A number; `smallint` in PostgreSQL.
    Small,
    /// A number; `integer` in PostgreSQL.
    Int,
    /// A number; `bigint` in PostgreSQL.
    Big,
    /// A time, which SQLite returns as JSON text and PostgreSQL stores as microseconds in a `bigint`.
    Moment,
    /// 0 or 1; `boolean` in PostgreSQL.
    Bool,
    /// Any text; escaped in PostgreSQL, which rejects NUL.
    Text,
    /// JSON text as serde wrote it, identical on both sides.
    Json,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Name in PostgreSQL.
    pub(super) name: &'static str,
    pub(super) kind: ColumnType,
    /// True when it may be NULL.
    pub(super) optional: bool,
}

/// Value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Number(i64),
    Id([u8; 16]),
    Text(Cow<'a, str>),
}

/// Row count and checksum of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) rows: u64,
    /// Sum modulo 2^64 of the first eight bytes of the SHA-256 of each row. A sum and not an exclusive or, in which two
    /// equal rows would cancel each other.
    pub(super) checksum: u64,
}

impl Checksum {
    /// Adds a row. `buffer` is scratch space.
    pub(super) fn add(&mut self, row: &[Value<'_>], buffer: &mut Vec<u8>) {
        buffer.clear();
        row.iter().for_each(|value| canonical(value, buffer));
        let hash = Sha256::digest(&*buffer);
        let first = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        self.rows += 1;
        self.checksum = self.checksum.wrapping_add(first);
    }
}

/// Encodes a value so that different rows have different bytes: a tag, and lengths before variable parts.
fn canonical(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0),
        Value::Number(number) => {
            out.push(1);
            out.extend(number.to_be_bytes());
        }
        Value::Id(id) => {
            out.push(2);
            out.extend(id);
        }
        Value::Text(text) => {
            out.push(3);
            out.extend((text.len() as u64).to_be_bytes());
            out.extend(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[Vec<Value<'_>>]) -> Checksum {
        let (mut sum, mut buffer) = (Checksum::default(), Vec::new());
        rows.iter().for_each(|row| sum.add(row, &mut buffer));
        sum
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    #[test]
    fn the_order_of_rows_does_not_count_and_everything_else_does() {
        let (a, b) = (vec![text("a"), Value::Number(1)], vec![text("b"), Value::Null]);
        let both = sum(&[a.clone(), b.clone()]);
        assert_eq!(both, sum(&[b.clone(), a.clone()]));
        assert_ne!(both, sum(&[a.clone(), a.clone()]));
        assert_ne!(sum(&[a.clone(), a.clone()]).checksum, sum(&[]).checksum, "equal rows do not cancel");
        assert_ne!(sum(&[vec![text("ab"), text("c")]]), sum(&[vec![text("a"), text("bc")]]));
        assert_ne!(sum(&[vec![Value::Number(0)]]), sum(&[vec![Value::Null]]));
        assert_ne!(sum(&[vec![Value::Id([0; 16])]]), sum(&[vec![text(&"\0".repeat(16))]]));
    }
}
