//! What is known of models: the tables that ship with Agentry, under those of a deployment.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use agentry_core::models::ModelTable;
use agentry_core::prices::PriceTable;

use crate::problem::Problem;
use crate::settings::Settings;
use crate::yaml::MAX_FILE_BYTES;

/// Traits and prices of models.
#[derive(Debug, Clone)]
pub struct Tables {
    /// What models take and refuse.
    pub models: Arc<ModelTable>,
    /// What they cost.
    pub prices: Arc<PriceTable>,
}

impl Tables {
    /// Returns the tables that ship with Agentry, which are read once in a process.
    #[must_use]
    pub fn shipped() -> &'static Self {
        static SHIPPED: LazyLock<Tables> = LazyLock::new(|| Tables {
            models: Arc::new(ModelTable::builtin()),
            prices: Arc::new(PriceTable::builtin()),
        });
        &SHIPPED
    }

    /// Returns the shipped tables with the entries of the files that the settings name.
    ///
    /// # Errors
    /// Fails when a file cannot be read or has a mistake.
    pub fn of(settings: &Settings) -> Result<Self, Problem> {
        let mut tables = Self::shipped().clone();
        if let Some((path, text)) = read("price file", settings.prices.as_ref())? {
            let own = PriceTable::parse(&text).map_err(|error| mistake(path, &error))?;
            tables.prices = Arc::new(own.or(PriceTable::builtin()));
        }
        if let Some((path, text)) = read("model file", settings.providers.models_file.as_ref())? {
            let own = ModelTable::parse(&text).map_err(|error| mistake(path, &error))?;
            tables.models = Arc::new(own.over(ModelTable::builtin()));
        }
        Ok(tables)
    }
}

/// Returns the text of a file that the settings name.
fn read<'p>(what: &str, path: Option<&'p PathBuf>) -> Result<Option<(&'p Path, String)>, Problem> {
    let Some(path) = path else { return Ok(None) };
    let wrong =
        |why: String| Problem::of_file(path.to_string_lossy().as_ref(), format!("cannot read the {what}: {why}"));
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > MAX_FILE_BYTES as u64 {
        return Err(wrong("it is larger than 1 MiB".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Ok(Some((path, text)))
}

fn mistake(path: &Path, error: &impl ToString) -> Problem {
    Problem::of_file(path.to_string_lossy().as_ref(), error.to_string())
}
