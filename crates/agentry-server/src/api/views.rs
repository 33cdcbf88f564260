//! Rows and pages of lists.

use std::fmt::Display;

use agentry_api::{List, TaskView};
use agentry_core::task::TaskRecord;
use agentry_store::Page;
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::Value;

use crate::extract::to_cursor;
use crate::problem::ApiResult;

/// The most characters of an input or output in a list.
const BRIEF_CHARS: usize = 160;

/// Returns the view of a record for a list: input and output are truncated to [`BRIEF_CHARS`] characters.
pub(crate) fn brief(record: &TaskRecord) -> TaskView {
    let mut view = TaskView::from(record);
    view.input = cut(&view.input);
    view.output = view.output.as_ref().map(cut);
    if let Some(error) = &mut view.error
        && let Some((at, _)) = error.message.char_indices().nth(BRIEF_CHARS)
    {
        error.message.truncate(at);
        error.message.push('…');
    }
    view
}

/// Returns the beginning of a value as text.
fn cut(value: &Value) -> Value {
    let whole = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut line: String = whole.chars().take(BRIEF_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if whole.chars().nth(BRIEF_CHARS).is_some() {
        line.push('…');
    }
    Value::String(line)
}

/// Returns the reply with a page; `cursor_of` returns the position after a row.
pub(crate) fn list_reply<R, T: Serialize, C: Display>(
    page: Page<R>,
    cursor_of: impl Fn(&R) -> C,
    view: impl Fn(R) -> T,
) -> ApiResult {
    let next_cursor = page.items.last().filter(|_| page.more).map(|row| to_cursor(&cursor_of(row)));
    Ok(axum::Json(List { items: page.items.into_iter().map(view).collect(), next_cursor }).into_response())
}
