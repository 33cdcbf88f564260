//! A row as both sides understand it, and the checksum of a table: the sum of its rows' hashes, whatever their order.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// What a column holds, and with it how each side writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 16 bytes; `uuid` in PostgreSQL.
    Id,
    /// A number; `smallint` in PostgreSQL.
    Small,
    /// A number; `integer` in PostgreSQL.
    Int,
    /// A number; `bigint` in PostgreSQL.
    Big,
    /// A moment, which SQLite gives as JSON text and PostgreSQL keeps as microseconds in a `bigint`.
    Moment,
    /// 0 or 1; `boolean` in PostgreSQL.
    Bool,
    /// Any text; escaped in PostgreSQL, which takes no NUL.
    Text,
    /// JSON text as serde wrote it, kept byte by byte on both sides.
    Json,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Its name in PostgreSQL.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
    /// Whether it may hold nothing.
    pub(super) optional: bool,
}

/// What a column of a row holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Number(i64),
    Id([u8; 16]),
    Text(Cow<'a, str>),
}

/// Rows that were seen, and their checksum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// How many.
    pub(super) rows: u64,
    /// The sum modulo 2^64 of the first eight bytes of the SHA-256 of each row. A sum and not an exclusive or, because
    /// two equal rows would cancel each other there.
    pub(super) checksum: u64,
}

impl Sum {
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

/// Writes a value so that different rows have different bytes: a tag, and lengths before what varies.
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

    fn sum(rows: &[Vec<Value<'_>>]) -> Sum {
        let (mut sum, mut buffer) = (Sum::default(), Vec::new());
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
