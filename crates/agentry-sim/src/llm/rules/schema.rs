//! JSON Schemas that providers refuse.

use serde_json::Value;

/// Keywords that OpenAI's strict mode does not know.
const REFUSED: [&str; 12] = [
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "uniqueItems",
];
/// Formats of texts that OpenAI's strict mode knows.
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
const TYPES: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];

/// Returns what OpenAI says of parameters that are no schema of an object, if they are not.
pub(in crate::llm) fn no_object(schema: &Value) -> Option<String> {
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        let kind = schema
            .get("type")
            .map_or_else(|| "None".to_owned(), |kind| kind.as_str().map_or(kind.to_string(), str::to_owned));
        return Some(format!("schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."));
    }
    let mut path = Vec::new();
    first(schema, &mut path, &|schema, _| {
        if !schema.is_object() && !schema.is_boolean() {
            return Some(format!("{schema} is not of type 'object', 'boolean'."));
        }
        let kinds = schema.get("type")?;
        let one = std::slice::from_ref(kinds);
        let kinds = kinds.as_array().map_or(one, Vec::as_slice);
        let wrong = kinds.iter().find(|kind| !kind.as_str().is_some_and(|kind| TYPES.contains(&kind)))?;
        Some(format!("{wrong} is not valid under any of the given schemas."))
    })
}

/// Returns what OpenAI says of a schema that its strict mode does not take, if it does not.
pub(in crate::llm) fn not_strict(schema: &Value) -> Option<String> {
    first(schema, &mut Vec::new(), &|schema, path| {
        let fields = schema.as_object()?;
        if let Some(keyword) = REFUSED.iter().find(|keyword| fields.contains_key(**keyword)) {
            return Some(format!("In context={}, '{keyword}' is not permitted.", context(path)));
        }
        if let Some(format) = fields.get("format").and_then(Value::as_str).filter(|format| !FORMATS.contains(format)) {
            return Some(format!("In context={}, '{format}' is not a valid format.", context(path)));
        }
        if !is_object(schema) {
            return None;
        }
        if fields.get("additionalProperties") != Some(&Value::Bool(false)) {
            let place = context(path);
            return Some(format!(
                "In context={place}, 'additionalProperties' is required to be supplied and to be false."
            ));
        }
        let required: Vec<&str> =
            fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let missing = fields.get("properties")?.as_object()?.keys().find(|name| !required.contains(&name.as_str()))?;
        Some(format!(
            "In context={}, 'required' is required to be supplied and to be an array including every key in properties. \
             Missing '{missing}'.",
            context(path)
        ))
    })
}

/// Returns what Anthropic says of a schema whose objects are open, if one is.
pub(in crate::llm) fn open_object(schema: &Value) -> Option<String> {
    first(schema, &mut Vec::new(), &|schema, _| {
        let is_open = is_object(schema) && schema.get("additionalProperties") != Some(&Value::Bool(false));
        is_open.then(|| "For 'object' type, 'additionalProperties' must be explicitly set to false".to_owned())
    })
}

fn is_object(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => schema.get("properties").is_some(),
    }
}

fn context(path: &[String]) -> String {
    let words: Vec<String> = path.iter().map(|word| format!("'{word}'")).collect();
    // Python writes a tuple of one with a comma.
    format!("({}{})", words.join(", "), if words.len() == 1 { "," } else { "" })
}

/// Returns the first problem of a schema or of one within it, from the outside to the inside.
fn first(
    schema: &Value,
    path: &mut Vec<String>,
    problem: &dyn Fn(&Value, &[String]) -> Option<String>,
) -> Option<String> {
    if let Some(problem) = problem(schema, path) {
        return Some(problem);
    }
    let fields = schema.as_object()?;
    let mut within = |steps: &[&str], schema: &Value| {
        path.extend(steps.iter().map(|step| (*step).to_owned()));
        let found = first(schema, path, problem);
        path.truncate(path.len() - steps.len());
        found
    };
    for key in ["properties", "$defs", "definitions"] {
        for (name, schema) in fields.get(key).and_then(Value::as_object).into_iter().flatten() {
            if let Some(problem) = within(&[key, name], schema) {
                return Some(problem);
            }
        }
    }
    if let Some(problem) =
        fields.get("items").filter(|items| items.is_object()).and_then(|items| within(&["items"], items))
    {
        return Some(problem);
    }
    for key in ["anyOf", "allOf", "oneOf"] {
        for (index, schema) in fields.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
            if let Some(problem) = within(&[key, &index.to_string()], schema) {
                return Some(problem);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn closed(properties: Value) -> Value {
        let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
        json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
    }

    #[test]
    fn strict_schemas_are_closed_complete_and_plain() {
        assert_eq!(
            not_strict(&closed(json!({"not": {"type": "string"}, "at": {"type": "string", "format": "date"}}))),
            None
        );
        for (schema, expected) in [
            (json!({"type": "object", "properties": {}}), "In context=(), 'additionalProperties'"),
            (json!({"type": "object", "additionalProperties": false, "properties": {"a": {}}}), "Missing 'a'"),
            (
                closed(json!({"url": {"type": "string", "format": "uri"}})),
                "In context=('properties', 'url'), 'uri' is not a valid format.",
            ),
            (closed(json!({"a": {"oneOf": []}})), "'oneOf' is not permitted"),
            (closed(json!({"a": {"type": "array", "uniqueItems": true}})), "'uniqueItems' is not permitted"),
            (
                closed(json!({"a": {"type": "array", "items": {"type": "object"}}})),
                "('properties', 'a', 'items'), 'additionalProperties'",
            ),
            (closed(json!({"a": {"anyOf": [{"patternProperties": {}}]}})), "'patternProperties'"),
        ] {
            let text = not_strict(&schema).unwrap_or_default();
            assert!(text.contains(expected), "{schema}: {text}");
        }
    }

    #[test]
    fn parameters_are_schemas_of_objects() {
        assert_eq!(
            no_object(&json!({"type": "object", "properties": {"a": true, "b": {"type": ["string", "null"]}}})),
            None
        );
        for (schema, expected) in [
            (json!({}), "got 'type: \"None\"'"),
            (json!({"type": "array"}), "got 'type: \"array\"'"),
            (json!({"type": "object", "properties": {"a": {"type": "text"}}}), "\"text\" is not valid"),
            (json!({"type": "object", "properties": {"a": 5}}), "5 is not of type"),
        ] {
            let text = no_object(&schema).unwrap_or_default();
            assert!(text.contains(expected), "{schema}: {text}");
        }
    }

    #[test]
    fn an_open_object_is_found_wherever_it_is() {
        assert_eq!(open_object(&closed(json!({"a": {"type": "string"}}))), None);
        let inner = closed(json!({"a": {"type": "array", "items": {"type": "object"}}}));
        assert!(open_object(&inner).is_some() && open_object(&json!({"type": "object"})).is_some());
    }
}
