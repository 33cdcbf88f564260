//! Model lists in each protocol's format. Requests may name any other model too.

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

const MODELS: [&str; 2] = ["sim-small", "sim-large"];
const MADE: &str = "2025-01-01T00:00:00Z";
/// [`MADE`] in seconds since the Unix epoch.
const MADE_SECONDS: u64 = 1_735_689_600;
const CONTEXT_TOKENS: u32 = 200_000;
const OLLAMA_VERSION: &str = "0.12.0";

/// `GET /v1/models`, which two providers have: a request with `anthropic-version` gets Anthropic's format.
pub(super) async fn list(headers: HeaderMap) -> Response {
    let anthropic = headers.contains_key("anthropic-version");
    let data: Vec<Value> = MODELS.iter().map(|id| if anthropic { of_anthropic(id) } else { of_openai(id) }).collect();
    if anthropic {
        let (first, last) = (MODELS.first(), MODELS.last());
        return Json(json!({"data": data, "has_more": false, "first_id": first, "last_id": last})).into_response();
    }
    Json(json!({"object": "list", "data": data})).into_response()
}

pub(super) async fn one(headers: HeaderMap, Path(id): Path<String>) -> Response {
    if id.starts_with(super::handle::UNKNOWN) {
        let message = format!("The model '{id}' does not exist");
        let error = json!({"message": message, "type": "not_found_error", "param": "model", "code": "model_not_found"});
        return (StatusCode::NOT_FOUND, Json(json!({"type": "error", "error": error}))).into_response();
    }
    let anthropic = headers.contains_key("anthropic-version");
    Json(if anthropic { of_anthropic(&id) } else { of_openai(&id) }).into_response()
}

pub(super) async fn bedrock() -> Response {
    let model = |id: &&str| {
        json!({
            "modelArn": format!("arn:aws:bedrock:us-east-1::foundation-model/{id}"),
            "modelId": id,
            "modelName": id,
            "providerName": "Agentry",
            "inputModalities": ["TEXT"],
            "outputModalities": ["TEXT"],
            "responseStreamingSupported": true,
            "inferenceTypesSupported": ["ON_DEMAND"],
            "modelLifecycle": {"status": "ACTIVE"},
        })
    };
    Json(json!({"modelSummaries": MODELS.iter().map(model).collect::<Vec<_>>()})).into_response()
}

pub(super) async fn tags() -> Response {
    let model = |id: &&str| {
        let name = format!("{id}:latest");
        json!({"name": name, "model": name, "modified_at": MADE, "size": 1, "digest": "0".repeat(64), "details": details()})
    };
    Json(json!({"models": MODELS.iter().map(model).collect::<Vec<_>>()})).into_response()
}

pub(super) async fn show(Json(request): Json<Value>) -> Response {
    let model = request.get("model").or(request.get("name")).and_then(Value::as_str).unwrap_or_default();
    if model.is_empty() || model.starts_with(super::handle::UNKNOWN) {
        let error = json!({"error": format!("model '{model}' not found")});
        return (StatusCode::NOT_FOUND, Json(error)).into_response();
    }
    let capabilities: &[&str] =
        if model.contains(super::handle::NO_TOOLS) { &["completion"] } else { &["completion", "tools", "thinking"] };
    let info = json!({"general.architecture": "sim", "sim.context_length": CONTEXT_TOKENS});
    let response = json!({"details": details(), "model_info": info, "capabilities": capabilities, "modified_at": MADE});
    Json(response).into_response()
}

pub(super) async fn version() -> Response {
    Json(json!({"version": OLLAMA_VERSION})).into_response()
}

fn details() -> Value {
    json!({"parent_model": "", "format": "gguf", "family": "sim", "families": ["sim"], "parameter_size": "1B",
        "quantization_level": "Q4_K_M"})
}

fn of_openai(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": MADE_SECONDS, "owned_by": "agentry-sim"})
}

fn of_anthropic(id: &str) -> Value {
    json!({"id": id, "type": "model", "display_name": id, "created_at": MADE, "lifecycle": "active",
        "max_input_tokens": CONTEXT_TOKENS, "max_tokens": CONTEXT_TOKENS})
}
