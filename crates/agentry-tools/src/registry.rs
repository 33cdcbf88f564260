//! All tools of a process: who is told of what, and which protocol a call goes by.

use agentry_core::agent::{AgentSpec, ToolKind, ToolSpec};
use agentry_core::chat::ToolDefinition;
use async_trait::async_trait;

use crate::arguments::{Validators, any_object};
use crate::environment::{self, Lookup};
use crate::http::HttpTools;
use crate::{Invocation, ToolBox, ToolError, ToolOutput};

/// The tools. One for the whole process: connections and compiled schemas are shared by all agents.
pub struct Tools {
    validators: Validators,
    http: HttpTools,
}

impl Default for Tools {
    fn default() -> Self {
        Self::new()
    }
}

impl Tools {
    /// Tools whose credentials come from the process environment.
    #[must_use]
    pub fn new() -> Self {
        Self::with_environment(environment::process())
    }

    /// Tools whose credentials come from `lookup`.
    #[must_use]
    pub fn with_environment(lookup: Lookup) -> Self {
        Self { validators: Validators::default(), http: HttpTools::new(lookup) }
    }
}

#[async_trait]
impl ToolBox for Tools {
    fn definitions(&self, spec: &AgentSpec) -> Vec<ToolDefinition> {
        spec.tools.iter().filter(|tool| matches!(tool.kind, ToolKind::Http { .. })).map(definition).collect()
    }

    async fn invoke(&self, invocation: Invocation<'_>) -> Result<ToolOutput, ToolError> {
        let tool = invocation.tool;
        match &tool.kind {
            ToolKind::Http { url } => {
                let arguments = self.validators.check(tool, &invocation.call.arguments)?;
                self.http.post(url, &arguments, &invocation).await
            }
            ToolKind::McpHttp { .. } | ToolKind::McpStdio { .. } => Err(ToolError::Unavailable {
                tool: tool.name.to_string(),
                reason: "MCP tools are not available in this version; use a tool of type http".to_owned(),
            }),
        }
    }
}

fn definition(tool: &ToolSpec) -> ToolDefinition {
    ToolDefinition {
        name: tool.name.to_string(),
        description: tool.description.as_deref().unwrap_or_default().to_owned(),
        parameters: tool.parameters.as_deref().cloned().unwrap_or_else(any_object),
    }
}
