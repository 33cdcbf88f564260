//! Limits and pages of lists, and numbers as SQL types.

use crate::{MAX_PAGE, Page};

/// Converts a number to SQL's signed type.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a limit, bounded by [`MAX_PAGE`].
pub(crate) fn sql_limit(limit: usize) -> i64 {
    signed(limit.min(MAX_PAGE) as u64)
}

/// Returns one row more than a page holds, which shows whether there is another page.
pub(crate) fn one_more(limit: usize) -> i64 {
    sql_limit(limit) + 1
}

impl<T> Page<T> {
    /// Creates a page from rows that were selected with [`one_more`].
    pub(crate) fn cut(mut items: Vec<T>, limit: usize) -> Self {
        let limit = limit.min(MAX_PAGE);
        let more = items.len() > limit;
        items.truncate(limit);
        Self { items, more }
    }
}
