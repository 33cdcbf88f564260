//! Pages of lists.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// Rows of the page.
    pub items: Vec<T>,
    /// Value of `cursor` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The query of a page.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Rows of the page, 1 to 1,000. Default: 50.
    pub limit: Option<usize>,
}

impl<T> From<Vec<T>> for List<T> {
    /// Returns a list with a single page.
    fn from(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}
