//! The form of an answer as OpenAI takes it.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::wire::AnswerSchema;

/// Longest schema name that the API accepts, in bytes.
const MAX_SCHEMA_NAME_BYTES: usize = 64;
/// Keywords that a strict schema may not have (OpenAI, "Structured outputs", supported schemas).
const NOT_STRICT: [&str; 11] = [
    "oneOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "uniqueItems",
    "contains",
];
/// Formats of texts that a strict schema may have (as above).
const STRICT_FORMATS: [&str; 9] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// Returns `name`, `schema` and `strict`. The API takes schemas of objects only, so any other is wrapped in one.
pub(super) fn named_schema(schema: Cow<'_, Value>) -> Map<String, Value> {
    let name = schema_name(&schema);
    let schema = AnswerSchema::new(schema).into_schema();
    let strict = is_strict(&schema);
    let fields = [("name", json!(name)), ("strict", strict.into()), ("schema", schema.into_owned())];
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

/// Returns the schema's title with the characters that the API accepts.
fn schema_name(schema: &Value) -> String {
    let title = schema.get("title").and_then(Value::as_str).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = title.chars().map(fits).take(MAX_SCHEMA_NAME_BYTES).collect();
    if name.is_empty() { "answer".to_owned() } else { name }
}

/// Returns true when the API accepts the schema as `strict`: every object is closed, all its properties are required,
/// and nothing stands in it that it refuses.
fn is_strict(schema: &Value) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    fields.iter().all(|(keyword, value)| match keyword.as_str() {
        keyword if NOT_STRICT.contains(&keyword) => false,
        "format" => value.as_str().is_some_and(|format| STRICT_FORMATS.contains(&format)),
        "properties" | "$defs" | "definitions" => {
            value.as_object().is_some_and(|schemas| schemas.values().all(is_strict))
        }
        "anyOf" => value.as_array().is_some_and(|schemas| schemas.iter().all(is_strict)),
        "items" => is_strict(value),
        _ => true,
    }) && is_closed(fields)
}

fn is_closed(fields: &Map<String, Value>) -> bool {
    match fields.get("properties").and_then(Value::as_object) {
        None => fields.get("type").and_then(Value::as_str) != Some("object"),
        Some(properties) => {
            let required = fields.get("required").and_then(Value::as_array);
            let is_required = |name: &String| required.is_some_and(|all| all.iter().any(|one| one == name));
            fields.get("additionalProperties") == Some(&Value::Bool(false)) && properties.keys().all(is_required)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(property: &Value) -> Value {
        json!({"type": "object", "properties": {"a": property}, "required": ["a"], "additionalProperties": false})
    }

    #[test]
    fn only_closed_schemas_are_strict() {
        assert!(is_strict(&object(&json!({"type": "string"}))));
        assert!(!is_strict(&json!({"type": "object"})));
        assert!(!is_strict(&json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false})));
        assert!(!is_strict(&object(&json!({"type": "array", "items": {"type": "object", "properties": {"a": {}}}}))));
    }

    #[test]
    fn what_the_api_refuses_in_strict_schemas_makes_them_loose() {
        for property in [
            json!({"type": "string", "format": "uri"}),
            json!({"oneOf": [{"type": "string"}]}),
            json!({"type": "array", "items": {"allOf": []}}),
            json!({"type": "array", "uniqueItems": true}),
            json!({"anyOf": [{"type": "string", "format": "uri"}]}),
        ] {
            assert!(!is_strict(&object(&property)), "{property}");
        }
        let named_like_keywords = json!({"type": "object", "properties": {"not": {"type": "string", "format": "date"}},
            "required": ["not"], "additionalProperties": false});
        assert!(is_strict(&named_like_keywords), "a property may have any name");
    }
}
