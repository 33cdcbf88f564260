//! Environment variables of AWS tools.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// Environment variables of AWS tools, so that a test can provide its own. Values are never printed.
#[derive(Clone, Default)]
pub struct AwsEnvironment(HashMap<String, SecretString>);

impl AwsEnvironment {
    /// Reads the variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let is_relevant = |name: &str| name.starts_with("AWS_") || name == "HOME" || name == "USERPROFILE";
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            (is_relevant(&name) && !value.is_empty()).then(|| (name, value.into()))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// Uses these variables.
    #[must_use]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned().into())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(|value| value.expose_secret())
    }

    /// Returns the file that a variable names, or a file in the home directory.
    pub(super) fn file(&self, variable: &str, at_home: &str) -> Option<PathBuf> {
        let home = || self.text("HOME").or_else(|| self.text("USERPROFILE"));
        self.text(variable).map(PathBuf::from).or_else(|| Some(PathBuf::from(home()?).join(at_home)))
    }
}

impl fmt::Debug for AwsEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
