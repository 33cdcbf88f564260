//! Prometheus and promtool for tests of the alert rules and the dashboard: found on the path, else installed.

use agentry_lab::find_executable;
use anyhow::{Context, Result};

use crate::services::apt;

/// Debian's package has both.
const PACKAGE: &str = "prometheus";

/// Installs them when one is missing.
pub fn ensure() -> Result<()> {
    if ["prometheus", "promtool"].iter().all(|name| find_executable(name, &[]).is_some()) {
        return Ok(());
    }
    apt::install_packages(&[PACKAGE]).with_context(|| {
        format!("tests of alert rules need prometheus and promtool\n  = help: install them (Debian: apt-get install {PACKAGE})")
    })
}
