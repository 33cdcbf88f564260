//! PostgreSQL's binary COPY format: a header, for each row its number of columns and for each column a length and its
//! bytes, and a trailer. See "Binary Format" in PostgreSQL's manual of `COPY`.

use bytes::{BufMut, Bytes, BytesMut};

use super::row::{Column, ColumnType, Value};
use crate::postgres::text;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// No flags, and no extension of the header.
const FLAGS_AND_EXTENSION: u64 = 0;
/// Marks the end in place of a row's number of columns.
const TRAILER: i16 = -1;
/// Length of NULL.
const NULL: i32 = -1;

/// Encoded rows that wait to be sent.
pub(super) struct CopyBuffer {
    out: BytesMut,
}

impl CopyBuffer {
    /// Creates a buffer with the header.
    pub(super) fn new() -> Self {
        let mut out = BytesMut::new();
        out.put_slice(SIGNATURE);
        out.put_u64(FLAGS_AND_EXTENSION);
        Self { out }
    }

    /// Adds a row. The error names the column that does not fit; the buffer is unusable then.
    pub(super) fn add(&mut self, columns: &[Column], row: &[Value<'_>]) -> Result<(), String> {
        self.out.put_i16(i16::try_from(columns.len()).map_err(|_| "the row has too many columns".to_owned())?);
        for (column, value) in columns.iter().zip(row) {
            put(&mut self.out, column.kind, value).map_err(|why| format!("`{}` {why}", column.name))?;
        }
        Ok(())
    }

    /// Returns the number of buffered bytes.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes the buffered bytes.
    pub(super) fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Takes the buffered bytes with the trailer.
    pub(super) fn finish(mut self) -> Bytes {
        self.out.put_i16(TRAILER);
        self.out.freeze()
    }
}

fn put(out: &mut BytesMut, kind: ColumnType, value: &Value<'_>) -> Result<(), String> {
    match (kind, value) {
        (_, Value::Null) => out.put_i32(NULL),
        (ColumnType::Id, Value::Id(id)) => put_bytes(out, id)?,
        (ColumnType::Small, Value::Number(number)) => put_bytes(out, &fit::<i16>(*number)?.to_be_bytes())?,
        (ColumnType::Int, Value::Number(number)) => put_bytes(out, &fit::<i32>(*number)?.to_be_bytes())?,
        (ColumnType::Big | ColumnType::Moment, Value::Number(number)) => put_bytes(out, &number.to_be_bytes())?,
        (ColumnType::Bool, Value::Number(number)) => put_bytes(out, &[u8::from(*number != 0)])?,
        (ColumnType::Text, Value::Text(text)) => put_bytes(out, text::escape(text).as_bytes())?,
        (ColumnType::Json, Value::Text(text)) => put_bytes(out, text.as_bytes())?,
        _ => return Err("does not hold what its kind says".to_owned()),
    }
    Ok(())
}

fn fit<T: TryFrom<i64>>(number: i64) -> Result<T, String> {
    T::try_from(number).map_err(|_| format!("is {number}, which is beyond its range in PostgreSQL"))
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) -> Result<(), String> {
    out.put_i32(i32::try_from(bytes.len()).map_err(|_| format!("has {} bytes, which is too long", bytes.len()))?);
    out.put_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn column(kind: ColumnType) -> Column {
        Column { name: "c", kind, optional: true }
    }

    #[test]
    fn a_copy_is_header_rows_trailer() {
        let mut copy = CopyBuffer::new();
        let columns = [column(ColumnType::Small), column(ColumnType::Text), column(ColumnType::Bool)];
        copy.add(&columns, &[Value::Number(-2), Value::Text("a\0".into()), Value::Null]).unwrap();
        let bytes = copy.finish();
        let row = [&[0, 3, 0, 0, 0, 2, 0xff, 0xfe, 0, 0, 0, 3][..], b"a\x010", &[0xff; 4], &[0xff, 0xff]].concat();
        assert_eq!(&bytes[..], [b"PGCOPY\n\xff\r\n\0", &[0; 8][..], &row].concat());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut copy = CopyBuffer::new();
        let error = copy.add(&[column(ColumnType::Small)], &[Value::Number(40_000)]).unwrap_err();
        assert_eq!(error, "`c` is 40000, which is beyond its range in PostgreSQL");
        assert!(copy.add(&[column(ColumnType::Int)], &[Value::Text("1".into())]).is_err());
    }
}
