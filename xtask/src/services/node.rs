//! Node.js and npm, for the tests against the reference MCP servers.

use agentry_lab::find_executable;

use super::apt;
use crate::say;

/// Programs that the tests start.
const PROGRAMS: &[&str] = &["node", "npm"];

/// Installs them where they are missing and that is ours to do. Where it is not, this is said, and the tests that need
/// them fail with the same advice.
pub fn ensure() {
    let missing: Vec<&str> =
        PROGRAMS.iter().copied().filter(|program| find_executable(program, &[]).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    if let Err(error) = apt::install_packages(&["nodejs", "npm"]) {
        say(&format!(
            "{} not found, and not installed ({error:#}): the tests against the reference MCP servers will fail; install \
             Node.js 20 or later with npm\n",
            missing.join(" and ")
        ));
    }
}
