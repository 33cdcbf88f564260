//! One connection to a server, from the handshake to its end.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, Implementation, PaginatedRequestParams,
    ProtocolVersion,
};
use rmcp::service::{NotificationContext, RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

use crate::diagnostics::Diagnostics;
use crate::http::{Http, HttpFault};
use crate::output::output;
use crate::server::{Credential, McpCall, McpError, McpOutput, McpTool, Server, Unavailable};
use crate::stdio::Stdio;

const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest number of tools per server; further ones are ignored.
const MAX_TOOLS: usize = 512;
const MAX_PAGES: usize = 64;
/// Longest description of a tool, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 16 * 1024;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept to an HTTP server.
const MAX_IDLE_CONNECTIONS: usize = 8;
const MAX_CONCURRENT_POSTS: usize = 64;

pub(crate) struct Connection {
    service: RunningService<RoleClient, NotificationHandler>,
    stale: Arc<AtomicBool>,
    diagnostics: Arc<Diagnostics>,
    pub since: Instant,
}

#[derive(Clone)]
struct NotificationHandler {
    stale: Arc<AtomicBool>,
}

impl ClientHandler for NotificationHandler {
    fn get_info(&self) -> ClientConfig {
        // No roots, sampling or elicitation: a server acts on requests of a model and makes none of its own.
        let us = Implementation::new("agentry", env!("CARGO_PKG_VERSION"));
        let mut info = ClientConfig::new(ClientCapabilities::default(), us);
        info.protocol_version = ProtocolVersion::V_2025_11_25;
        info
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.stale.store(true, Ordering::Relaxed);
    }
}

impl Connection {
    /// Connects and shakes hands. Dropping the future ends the started process.
    ///
    /// # Errors
    /// The reason in words for people and models, without secrets.
    pub async fn open(name: &str, server: &Server, patience: Duration) -> Result<Self, Unavailable> {
        let diagnostics = Arc::new(Diagnostics::new(secrets(server)));
        let stale = Arc::new(AtomicBool::new(false));
        let handler = NotificationHandler { stale: Arc::clone(&stale) };
        let failed = |outcome: &str| Unavailable::from(diagnostics.explain(outcome));
        let began = async {
            match server {
                Server::Stdio(program) => {
                    let transport = Stdio::start(program, name, Arc::clone(&diagnostics))?;
                    handler.serve(transport).await.map_err(|error| failed(&initialize(&error)))
                }
                Server::Http { url, credential } => {
                    let transport = http(url, credential.as_ref(), &diagnostics)?;
                    handler.serve(transport).await.map_err(|error| failed(&initialize(&error)))
                }
            }
        };
        let service = timeout(patience, began)
            .await
            .unwrap_or_else(|_| Err(failed(&format!("it did not answer `initialize` within {patience:?}"))))?;
        Ok(Self { service, stale, diagnostics, since: Instant::now() })
    }

    pub fn is_closed(&self) -> bool {
        self.service.peer().is_transport_closed() || self.service.is_closed()
    }

    /// Returns true once after the server announced a change of its tools.
    pub fn take_stale(&self) -> bool {
        self.stale.swap(false, Ordering::Relaxed)
    }

    /// Adds the known cause to `outcome`.
    pub fn explain(&self, outcome: &str) -> String {
        self.diagnostics.explain(outcome)
    }

    /// Lists the tools of the server.
    ///
    /// # Errors
    /// The server did not return them.
    pub async fn list(&self) -> Result<Vec<McpTool>, Unavailable> {
        let listing = async {
            let (mut tools, mut cursor) = (Vec::new(), None);
            for _ in 0..MAX_PAGES {
                let params = PaginatedRequestParams::default().with_cursor(cursor);
                let page = self.service.peer().list_tools(Some(params)).await?;
                tools.extend(page.tools.into_iter().take(MAX_TOOLS - tools.len()).map(tool));
                cursor = page.next_cursor.filter(|cursor| !cursor.is_empty());
                if cursor.is_none() || tools.len() == MAX_TOOLS {
                    break;
                }
            }
            Ok(tools)
        };
        match timeout(LIST_TIMEOUT, listing).await {
            Ok(Ok(tools)) => Ok(tools),
            Ok(Err(error)) => Err(self.explain(&format!("it did not list its tools: {}", message_of(&error))).into()),
            Err(_) => Err(self.explain(&format!("it did not answer `tools/list` within {LIST_TIMEOUT:?}")).into()),
        }
    }

    /// Calls a tool. Dropping the future, as its timeout does, cancels the call on the server.
    ///
    /// # Errors
    /// See [`McpError`].
    pub async fn call(&self, call: McpCall<'_>) -> Result<McpOutput, McpError> {
        let mut params = CallToolRequestParams::new(call.tool.to_owned()).with_arguments(call.arguments);
        params.meta = Some(call.meta.into());
        let Ok(answer) = timeout(call.timeout, self.service.peer().call_tool_once(params)).await else {
            return Err(McpError::Unknown(self.explain(&format!("no whole answer within {:?}", call.timeout))));
        };
        match answer {
            Ok(CallToolResponse::Complete(result)) => Ok(output(result)),
            Ok(CallToolResponse::InputRequired(_)) => {
                Ok(error_output("the server asks for input, which Agentry does not give"))
            }
            Ok(_) => Ok(error_output("the server answers with a task to poll, which Agentry does not do")),
            Err(ServiceError::McpError(error)) => {
                Ok(error_output(&format!("the server refused: {} ({})", error.message, error.code.0)))
            }
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn failure(&self, error: &ServiceError) -> McpError {
        let text = self.explain(&message_of(error));
        match http_fault(error) {
            Some(HttpFault::NotSent(_)) => McpError::Unavailable(text),
            // Below 500 the server refused the request and did nothing.
            Some(HttpFault::Status { status, .. }) if *status < StatusCode::INTERNAL_SERVER_ERROR => {
                McpError::Unavailable(text)
            }
            _ => McpError::Unknown(text),
        }
    }

    /// Closes the connection within a time limit.
    pub async fn close(mut self) {
        // A connection that does not close in time is ended by its drop.
        let _ = self.service.close_with_timeout(CLOSE_TIMEOUT).await;
    }
}

fn error_output(text: &str) -> McpOutput {
    McpOutput { text: text.to_owned(), is_error: true }
}

fn http(
    url: &str,
    credential: Option<&Credential>,
    diagnostics: &Arc<Diagnostics>,
) -> Result<StreamableHttpClientTransport<Http>, Unavailable> {
    let builder = agentry_http::builder(url).pool_max_idle_per_host(MAX_IDLE_CONNECTIONS);
    let client = builder
        .build()
        .map_err(|error| Unavailable::from(format!("no HTTP client: {}", agentry_http::with_causes(&error))))?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(url).max_concurrent_requests(MAX_CONCURRENT_POSTS);
    match credential {
        Some(Credential::Bearer(token)) => config = config.auth_header(token.expose_secret()),
        Some(Credential::ApiKey(key)) => {
            let mut value = HeaderValue::from_str(key.expose_secret())
                .map_err(|_| Unavailable::from("its token has characters that no HTTP header takes".to_owned()))?;
            value.set_sensitive(true);
            config = config.custom_headers(HashMap::from([(HeaderName::from_static("x-api-key"), value)]));
        }
        None => {}
    }
    Ok(StreamableHttpClientTransport::with_client(Http::new(client, Arc::clone(diagnostics)), config))
}

fn secrets(server: &Server) -> Vec<SecretString> {
    match server {
        Server::Stdio(program) => program.environment.iter().map(|(_, value)| value.clone()).collect(),
        Server::Http { credential: Some(Credential::Bearer(token) | Credential::ApiKey(token)), .. } => {
            vec![token.clone()]
        }
        Server::Http { .. } => Vec::new(),
    }
}

fn initialize(error: &rmcp::service::ClientInitializeError) -> String {
    format!("the handshake failed: {}", bounded(&agentry_http::with_causes(error)))
}

/// Returns the SDK's message without its type names, shortened.
fn message_of(error: &ServiceError) -> String {
    match error {
        ServiceError::TransportClosed => "the connection was lost".to_owned(),
        ServiceError::TransportSend(error) => {
            error.source().map_or_else(|| error.to_string(), |cause| bounded(&cause.to_string()))
        }
        error => bounded(&error.to_string()),
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(2_000).collect()
}

fn http_fault(error: &ServiceError) -> Option<&HttpFault> {
    let ServiceError::TransportSend(error) = error else { return None };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.error.as_ref());
    while let Some(current) = cause {
        if let Some(StreamableHttpError::Client(fault)) = current.downcast_ref::<StreamableHttpError<HttpFault>>() {
            return Some(fault);
        }
        cause = current.source();
    }
    None
}

fn tool(tool: rmcp::model::Tool) -> McpTool {
    let about = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default();
    let about = &about[..about.floor_char_boundary(MAX_DESCRIPTION_BYTES)];
    let mut schema: Map<String, Value> = Arc::unwrap_or_clone(tool.input_schema);
    // Providers refuse a schema without a type.
    schema.entry("type").or_insert_with(|| Value::from("object"));
    McpTool { name: tool.name.into_owned(), description: about.to_owned(), schema: Arc::new(Value::Object(schema)) }
}
