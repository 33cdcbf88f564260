//! All tools of a process: who is told of what, and which protocol a call goes by.

use std::time::Duration;

use agentry_core::agent::{AgentSpec, ToolKind, ToolSpec};
use agentry_core::chat::ToolDefinition;
use async_trait::async_trait;

use crate::arguments::{Validators, any_object};
use crate::environment::{self, Lookup};
use crate::http::HttpTools;
use crate::servers::McpServers;
use crate::{Invocation, ToolBox, ToolError, ToolOutput};

/// The tools. One for the whole process: connections and compiled schemas are shared by all agents.
pub struct Tools {
    validators: Validators,
    http: HttpTools,
    servers: McpServers,
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
        let servers = McpServers::new(lookup.clone());
        Self { validators: Validators::default(), http: HttpTools::new(lookup), servers }
    }

    /// The same with another time that MCP servers may take to start.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.servers.patience = patience;
        self
    }

    /// Ends the servers that were started. They are started again when they are needed again.
    pub async fn close(&self) {
        self.servers.close().await;
    }
}

#[async_trait]
impl ToolBox for Tools {
    async fn definitions(&self, spec: &AgentSpec) -> Vec<ToolDefinition> {
        // Servers side by side: one that is slow to start keeps nobody waiting twice.
        let servers = spec.tools.iter().filter(|tool| tool.kind.is_server());
        let told = futures_util::future::join_all(servers.map(|tool| self.servers.definitions(tool))).await;
        let own = spec.tools.iter().filter(|tool| !tool.kind.is_server());
        let mut definitions: Vec<ToolDefinition> = own.map(definition).collect();
        for one in told.into_iter().flatten() {
            // A name that is taken is not told twice; calls go to the one that is told.
            if !definitions.iter().any(|known| known.name == one.name) {
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
