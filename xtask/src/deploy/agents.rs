//! The ConfigMap of the example agents: what it holds is what `agents/` holds.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::files;
use crate::workspace::Workspace;

const HEAD: &str = "\
# The example agents; `cargo xtask references` writes this file from agents/. For a fleet of your own:
#   kubectl create configmap agentry-agents -n agentry --from-file=agents/ --dry-run=client -o yaml | kubectl apply -f -
# A ConfigMap holds up to 1 MiB; a larger fleet needs a volume.
apiVersion: v1
kind: ConfigMap
metadata:
  name: agentry-agents
  namespace: agentry
  labels: {app.kubernetes.io/name: agentry}
data:
";

fn file(workspace: &Workspace) -> PathBuf {
    workspace.root.join("deploy/kubernetes/10-agents.yml")
}

fn text(workspace: &Workspace) -> Result<String> {
    let mut text = HEAD.to_owned();
    for agent in files(&workspace.root.join("agents"), ".yml")? {
        let name = agent.file_name().unwrap_or_default().to_string_lossy();
        let content = std::fs::read_to_string(&agent).with_context(|| agent.display().to_string())?;
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "  {name}: |");
        for line in content.trim_end().lines() {
            let _ = if line.is_empty() { writeln!(text) } else { writeln!(text, "    {line}") };
        }
    }
    Ok(text)
}

/// Writes it anew.
pub fn write(workspace: &Workspace) -> Result<()> {
    std::fs::write(file(workspace), text(workspace)?).with_context(|| file(workspace).display().to_string())
}

/// Returns the problem of the file, if any.
pub fn compare(workspace: &Workspace) -> Result<Option<String>> {
    let found = std::fs::read_to_string(file(workspace)).unwrap_or_default();
    let hint = "deploy/kubernetes/10-agents.yml is not what agents/ holds: run `cargo xtask references`";
    Ok((found != text(workspace)?).then(|| hint.to_owned()))
}
