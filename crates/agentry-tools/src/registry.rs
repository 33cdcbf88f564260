//! All tools of a process: definitions for models, and dispatch of calls by protocol.

use std::time::Duration;

use agentry_core::agent::{AgentSpec, ToolKind, ToolSpec};
use agentry_core::chat::ToolDefinition;
use async_trait::async_trait;

use crate::arguments::{Schemas, any_object};
use crate::environment::{self, Lookup};
use crate::http::HttpTools;
use crate::servers::McpServers;
use crate::{Invocation, ToolBox, ToolError, ToolOutput};

/// The tools. All agents of the process share connections and compiled schemas.
pub struct Tools {
    validators: Schemas,
    http: HttpTools,
    servers: McpServers,
}

impl Default for Tools {
    fn default() -> Self {
        Self::new()
    }
}

impl Tools {
    /// Creates tools whose credentials come from the process environment.
    #[must_use]
    pub fn new() -> Self {
        Self::with_environment(environment::process())
    }

    /// Creates tools whose credentials come from `lookup`.
    #[must_use]
    pub fn with_environment(lookup: Lookup) -> Self {
        let servers = McpServers::new(lookup.clone());
        Self { validators: Schemas::default(), http: HttpTools::new(lookup), servers }
    }

    /// Sets the start timeout of MCP servers.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.servers.patience = patience;
        self
    }

    /// Stops the servers that were started. They are started again on their next use.
    pub async fn close(&self) {
        self.servers.close().await;
    }
}

#[async_trait]
impl ToolBox for Tools {
    async fn definitions(&self, spec: &AgentSpec) -> Vec<ToolDefinition> {
        // Servers are asked concurrently, so that a slow one delays the others only once.
        let servers = spec.tools.iter().filter(|tool| tool.kind.is_server());
        let listed = futures_util::future::join_all(servers.map(|tool| self.servers.definitions(tool))).await;
        let own = spec.tools.iter().filter(|tool| !tool.kind.is_server());
        let mut definitions: Vec<ToolDefinition> = own.map(definition).collect();
        for one in listed.into_iter().flatten() {
            // A duplicate name is listed once; calls go to the listed tool.
            if !definitions.iter().any(|listed| listed.name == one.name) {
                definitions.push(one);
            }
        }
        definitions
    }

    fn trouble(&self, spec: &AgentSpec) -> Option<String> {
        spec.tools.iter().filter(|tool| tool.kind.is_server()).find_map(|tool| self.servers.trouble(tool))
    }

    async fn invoke(&self, invocation: Invocation<'_>) -> Result<ToolOutput, ToolError> {
        let tool = invocation.tool;
        match &tool.kind {
            ToolKind::Http { url } => {
                let arguments =
                    self.validators.check(&tool.name, tool.parameters.as_deref(), &invocation.call.arguments)?;
                self.http.post(url, &arguments, &invocation).await
            }
            ToolKind::McpHttp { .. } | ToolKind::McpStdio { .. } => {
                self.servers.call(&invocation, &self.validators).await
            }
        }
    }
}

pub(crate) fn definition(tool: &ToolSpec) -> ToolDefinition {
    ToolDefinition {
        name: tool.name.to_string(),
        description: tool.description.as_deref().unwrap_or_default().to_owned(),
        parameters: tool.parameters.as_deref().cloned().unwrap_or_else(any_object),
    }
}
