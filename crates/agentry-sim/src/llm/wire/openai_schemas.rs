//! Functions and schemas in requests to OpenAI, the same in chat completions and in Responses.

use serde_json::Value;

use super::super::rules::schema;
use super::Refusal;
use super::blocks::is_plain_id;

/// Longest name of a function or a schema.
const MAX_NAME_CHARS: usize = 64;
const PATTERN: &str = "^[a-zA-Z0-9_-]+$";

/// Checks a function with `name`, `parameters` and `strict`, which stands at `place` in the request.
pub(super) fn function(function: &Value, place: &str) -> Option<Refusal> {
    let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
    if let Some(refusal) = self::name(name, &format!("{place}.name")) {
        return Some(refusal);
    }
    let parameters = function.get("parameters").filter(|parameters| !parameters.is_null())?;
    let is_strict = function.get("strict") == Some(&Value::Bool(true));
    let problem = schema::no_object(parameters).or_else(|| schema::not_strict(parameters).filter(|_| is_strict))?;
    let text = format!("Invalid schema for function '{name}': {problem}");
    Some(Refusal::bad(text).at(format!("{place}.parameters")).with_code("invalid_function_parameters"))
}

/// Checks the form of an answer with `name`, `schema` and `strict`, which stands at `place` in the request.
pub(super) fn form(form: &Value, place: &str) -> Option<Refusal> {
    let name = form.get("name").and_then(Value::as_str).unwrap_or_default();
    if let Some(refusal) = self::name(name, &format!("{place}.name")) {
        return Some(refusal);
    }
    let is_strict = form.get("strict") == Some(&Value::Bool(true));
    let schema = form.get("schema").filter(|_| is_strict)?;
    let problem = schema::no_object(schema).or_else(|| schema::not_strict(schema))?;
    Some(Refusal::bad(format!("Invalid schema for response_format '{name}': {problem}")).at(place))
}

fn name(name: &str, place: &str) -> Option<Refusal> {
    if name.len() > MAX_NAME_CHARS {
        let text = format!(
            "Invalid '{place}': string too long. Expected a string with maximum length {MAX_NAME_CHARS}, but got a string with \
             length {} instead.",
            name.len()
        );
        return Some(Refusal::bad(text).at(place).with_code("string_above_max_length"));
    }
    (!is_plain_id(name)).then(|| {
        let text = format!(
            "Invalid '{place}': string does not match pattern. Expected a string that matches the pattern '{PATTERN}'."
        );
        Refusal::bad(text).at(place).with_code("invalid_value")
    })
}

/// Returns the refusal of a field that does not exist.
pub(super) fn unknown_parameter(field: &str) -> Refusal {
    Refusal::bad(format!("Unknown parameter: '{field}'.")).at(field).with_code("unknown_parameter")
}
