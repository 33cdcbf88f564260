//! Generates the smallest JSON value that fits a JSON Schema: the answer of simulated models to a request with a
//! schema.

use serde_json::{Map, Value, json};

/// Maximum depth to which a schema is followed, so that a recursive one ends.
const MAX_DEPTH: u32 = 16;

/// Returns a value that fits `schema`, as far as `type`, `enum`, `const`, `properties`, `required`, `items`,
/// `minItems`, `minimum` and the first of `anyOf`/`oneOf` say; strings are `text`.
#[must_use]
pub fn sample(schema: &Value, text: &str) -> Value {
    sample_at(schema, text, 0)
}

fn sample_at(schema: &Value, text: &str, depth: u32) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(value) = schema.get("const").or_else(|| schema.get("default")) {
        return value.clone();
    }
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return first.clone();
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(first) = schema.get(choice).and_then(Value::as_array).and_then(|choices| choices.first()) {
            return sample_at(first, text, depth + 1);
        }
    }
    match type_of(schema) {
        "object" => object(schema, text, depth),
        "array" => {
            let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(16);
            let item = schema.get("items").map_or(Value::Null, |items| sample_at(items, text, depth + 1));
            Value::Array((0..count).map(|_| item.clone()).collect())
        }
        "integer" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        "number" => schema.get("minimum").cloned().unwrap_or(json!(1.0)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => json!(text),
    }
}

fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => names.first().and_then(Value::as_str).unwrap_or("string"),
        _ if schema.get("properties").is_some() => "object",
        _ => "string",
    }
}

fn object(schema: &Value, text: &str, depth: u32) -> Value {
    let mut fields = Map::new();
    let required = schema.get("required").and_then(Value::as_array);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            if required.is_none_or(|names| names.iter().any(|n| n == name)) {
                fields.insert(name.clone(), sample_at(property, text, depth + 1));
            }
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_fields_are_filled_by_type() {
        let schema = json!({
            "type": "object",
            "properties": {
                "team": {"enum": ["billing", "technical"]},
                "score": {"type": "number", "minimum": 0.5},
                "notes": {"type": "array", "items": {"type": "string"}, "minItems": 2},
                "skip": {"type": "string"}
            },
            "required": ["team", "score", "notes"]
        });
        assert_eq!(sample(&schema, "x"), json!({"team": "billing", "score": 0.5, "notes": ["x", "x"]}));
    }
}
