//! Limits and pages of lists, and numbers as SQL takes them.

use crate::{MAX_PAGE, Page};

/// A number that SQL keeps as a signed one.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A limit as SQL takes it, within [`MAX_PAGE`].
pub(crate) fn sql_limit(limit: usize) -> i64 {
    signed(limit.min(MAX_PAGE) as u64)
}

/// One row more than a page holds: it says whether there is another page.
pub(crate) fn one_more(limit: usize) -> i64 {
    sql_limit(limit) + 1
}

impl<T> Page<T> {
    /// Makes a page of rows that were asked for with [`one_more`].
    pub(crate) fn cut(mut items: Vec<T>, limit: usize) -> Self {
        let limit = limit.min(MAX_PAGE);
        let more = items.len() > limit;
        items.truncate(limit);
        Self { items, more }
    }
}
