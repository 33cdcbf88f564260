//! The MCP servers of a process: one connection for each distinct server, shared by all agents that name it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentry_core::agent::{ToolAuth, ToolAuthKind, ToolKind, ToolSpec};
use agentry_core::chat::ToolDefinition;
use agentry_mcp::{Credential, McpCall, McpError, McpServer, McpTool, Program, Server, Snapshot, Unavailable};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout};

use crate::arguments::Schemas;
use crate::environment::{Lookup, VariableError, resolve};
use crate::names::offered;
use crate::{Invocation, ToolError, ToolOutput, http};

/// Largest number of servers; an unused one makes room for a new one.
const MAX_SERVERS: usize = 256;
/// Time for a server to start and shake hands. Launchers fetch packages in this time.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct McpServers {
    lookup: Lookup,
    pub patience: Duration,
    servers: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    server: Arc<McpServer>,
    used: Instant,
}

impl McpServers {
    pub fn new(lookup: Lookup) -> Self {
        Self { lookup, patience: PATIENCE, servers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the definitions of a server's tools; while they are unknown, one tool that reports this and retries.
    pub async fn definitions(&self, tool: &ToolSpec) -> Vec<ToolDefinition> {
        let snapshot = match self.server(tool) {
            Ok(server) => server.tools().await,
            Err(reason) => Snapshot { tools: None, trouble: Some(reason.to_string()) },
        };
        let Some(tools) = snapshot.tools else {
            return vec![unavailable(tool, snapshot.trouble.as_deref().unwrap_or_default())];
        };
        let (names, tools) = allowed(tool, &tools);
        let listed = names.into_iter().zip(tools);
        listed
            .map(|(name, tool)| ToolDefinition {
                name,
                description: tool.description.clone(),
                parameters: (*tool.schema).clone(),
            })
            .collect()
    }

    /// Returns the reason for which a server is unavailable.
    pub fn trouble(&self, tool: &ToolSpec) -> Option<String> {
        let servers = self.lock();
        let reason = servers.get(&key(tool))?.server.snapshot().trouble?;
        Some(format!("the tools of `{}` are unavailable: {reason}", tool.name))
    }

    /// Makes one call of one tool of a server.
    pub async fn call(&self, invocation: &Invocation<'_>, validators: &Schemas) -> Result<ToolOutput, ToolError> {
        let (tool, name) = (invocation.tool, &invocation.call.name);
        let unavailable = |reason: String| ToolError::Unavailable { tool: name.clone(), reason };
        let limit = Duration::from_millis(tool.timeout_ms);
        let began = Instant::now();
        let server = self.server(tool).map_err(|reason| unavailable(reason.to_string()))?;
        let snapshot = timeout(limit, server.tools())
            .await
            .map_err(|_| unavailable(format!("its server was not ready within {limit:?}")))?;
        let trouble = snapshot.trouble;
        let Some(tools) = snapshot.tools else {
            return Err(unavailable(trouble.unwrap_or_else(|| "its server did not list its tools".to_owned())));
        };
        let (names, tools) = allowed(tool, &tools);
        if *name == *tool.name {
            // The call of the placeholder that stands for unknown tools.
            return Ok(ToolOutput {
                text: format!("available now: {}", names.join(", ")),
                is_error: false,
                is_refusal: false,
            });
        }
        let found = names.iter().position(|offered| offered == name).and_then(|at| tools.get(at));
        let Some(found) = found else {
            return Err(unavailable(format!("its server has no such tool now; it has {}", list(&names))));
        };
        let arguments = validators.check(name, Some(&found.schema), &invocation.call.arguments)?;
        let Value::Object(arguments) = arguments else { return Err(unavailable("no arguments".to_owned())) };
        let rest = limit.saturating_sub(began.elapsed());
        let call = McpCall { tool: &found.name, arguments, meta: meta(invocation), timeout: rest };
        match server.call(call).await {
            Ok(output) => Ok(ToolOutput { text: output.text, is_error: output.is_error, is_refusal: false }),
            Err(McpError::Unavailable(reason)) => Err(unavailable(reason)),
            Err(McpError::Unknown(reason)) => Err(ToolError::Unknown { tool: name.clone(), reason }),
        }
    }

    pub async fn close(&self) {
        let servers: Vec<Arc<McpServer>> = self.lock().drain().map(|(_, entry)| entry.server).collect();
        futures_util::future::join_all(servers.iter().map(|server| server.close())).await;
    }

    fn server(&self, tool: &ToolSpec) -> Result<Arc<McpServer>, Unavailable> {
        let key = key(tool);
        let mut servers = self.lock();
        if let Some(entry) = servers.get_mut(&key) {
            entry.used = Instant::now();
            return Ok(Arc::clone(&entry.server));
        }
        if servers.len() >= MAX_SERVERS {
            let idle = servers.iter().filter(|(_, entry)| Arc::strong_count(&entry.server) == 1);
            let oldest = idle.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let oldest = oldest.ok_or_else(|| {
                Unavailable::from(format!("{MAX_SERVERS} MCP servers are in use, which is the limit"))
            })?;
            servers.remove(&oldest);
        }
        let (kind, auth, lookup) = (tool.kind.clone(), tool.auth.clone(), Arc::clone(&self.lookup));
        let source = Box::new(move || {
            address(&kind, auth.as_ref(), &lookup).map_err(|error| Unavailable::from(error.to_string()))
        });
        let server = Arc::new(McpServer::new(&tool.name, self.patience, source));
        servers.insert(key, Entry { server: Arc::clone(&server), used: Instant::now() });
        Ok(server)
    }
}

/// Returns the identity of a server: its address and its credentials, before variables are filled in.
fn key(tool: &ToolSpec) -> String {
    json!([tool.kind, tool.auth]).to_string()
}

/// Returns the address of a server with the current variables.
fn address(kind: &ToolKind, auth: Option<&ToolAuth>, lookup: &Lookup) -> Result<Server, VariableError> {
    match kind {
        ToolKind::McpStdio { command, env } => {
            let command = command.iter().map(|word| resolve(word, lookup)).collect::<Result<_, _>>()?;
            let filled = env.iter().map(|(name, value)| Ok((name.to_string(), resolve(value, lookup)?)));
            let mut environment = filled.collect::<Result<Vec<_>, VariableError>>()?;
            if let Some(auth) = auth {
                // A program has no header for it, so it is passed in this variable, which servers can be configured to
                // read.
                environment.push(("MCP_AUTH_TOKEN".to_owned(), resolve(&auth.token, lookup)?));
            }
            Ok(Server::Stdio(Program { command, environment }))
        }
        ToolKind::McpHttp { url } | ToolKind::Http { url } => {
            let credential = auth.map(|auth| {
                let token = http::token(auth, lookup)?;
                Ok::<_, VariableError>(match auth.kind {
                    ToolAuthKind::BearerToken | ToolAuthKind::Oauth2 => Credential::Bearer(token),
                    ToolAuthKind::ApiKey => Credential::ApiKey(token),
                })
            });
            Ok(Server::Http { url: url.to_string(), credential: credential.transpose()? })
        }
    }
}

/// Returns the tools of a server that an agent may use, and their names. Names depend on all tools of the server, so
/// that allowing one more changes no other name.
fn allowed<'t>(tool: &ToolSpec, tools: &'t [McpTool]) -> (Vec<String>, Vec<&'t McpTool>) {
    let names = offered(&tool.name, tools.iter().map(|tool| tool.name.as_str()));
    let may = |name: &str| tool.allowed_tools.is_empty() || tool.allowed_tools.iter().any(|allowed| **allowed == *name);
    names.into_iter().zip(tools).filter(|(_, tool)| may(&tool.name)).unzip()
}

fn unavailable(tool: &ToolSpec, reason: &str) -> ToolDefinition {
    let about = tool.description.as_deref().unwrap_or_default();
    let text = format!(
        "The tools of the server `{}` are unavailable now ({reason}). Calling this tries again and tells which there are. \
         {about}",
        tool.name
    );
    ToolDefinition {
        name: tool.name.to_string(),
        description: text.trim_end().to_owned(),
        parameters: crate::arguments::any_object(),
    }
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Returns the metadata of a call: the trace, and a key that is the same for all attempts.
fn meta(invocation: &Invocation<'_>) -> Map<String, Value> {
    Map::from_iter([
        ("traceparent".to_owned(), Value::from(invocation.place.traceparent())),
        ("dev.agentry/idempotency-key".to_owned(), Value::from(invocation.idempotency_key.clone())),
    ])
}
