//! The variables that AWS's tools go by.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// The variables that AWS's tools go by, so that a test can bring its own. What they hold is not printed.
#[derive(Clone, Default)]
pub struct AwsEnvironment(HashMap<String, SecretString>);

impl AwsEnvironment {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let wanted = |name: &str| name.starts_with("AWS_") || name == "HOME" || name == "USERPROFILE";
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            (wanted(&name) && !value.is_empty()).then(|| (name, value.into()))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// These.
    #[must_use]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned().into())).collect())
    }

    /// One of them.
    pub(super) fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// One that is no secret.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(|value| value.expose_secret())
    }

    /// A file that a variable names, or that stands in the home folder.
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
