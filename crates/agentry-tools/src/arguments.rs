//! Validation of tool arguments against the tool's schema, before anything is sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::ToolError;

/// Largest number of compiled schemas; one more clears all of them.
const MAX_VALIDATORS: usize = 1_024;
const MAX_PROBLEMS: usize = 5;

/// Returns the schema of a tool without one.
pub(crate) fn any_object() -> Value {
    json!({"type": "object"})
}

/// Compiled schemas, by their text.
#[derive(Debug, Default)]
pub(crate) struct Validators {
    compiled: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Validators {
    /// Parses and validates arguments.
    ///
    /// # Errors
    /// [`ToolError::Arguments`] with a message that the model can act on; [`ToolError::Unavailable`] when the schema
    /// itself is invalid.
    pub(crate) fn check(&self, tool: &str, schema: Option<&Value>, arguments: &str) -> Result<Value, ToolError> {
        let problem = |problem: String| ToolError::Arguments { tool: tool.to_owned(), problem };
        // Models send an empty text for tools without arguments.
        let text = if arguments.trim().is_empty() { "{}" } else { arguments };
        let value: Value = serde_json::from_str(text).map_err(|error| problem(format!("not JSON: {error}")))?;
        if !value.is_object() {
            return Err(problem("they must be a JSON object".to_owned()));
        }
        let Some(schema) = schema else { return Ok(value) };
        let validator = self.validator(schema).map_err(|reason| ToolError::Unavailable {
            tool: tool.to_owned(),
            reason: format!("its `parameters` are not a JSON Schema: {reason}"),
        })?;
        let problems: Vec<String> = validator
            .iter_errors(&value)
            .take(MAX_PROBLEMS)
            .map(|error| match error.instance_path().to_string() {
                path if path.is_empty() => error.to_string(),
                path => format!("{path}: {error}"),
            })
            .collect();
        if problems.is_empty() { Ok(value) } else { Err(problem(problems.join("; "))) }
    }

    fn validator(&self, schema: &Value) -> Result<Arc<Validator>, Box<jsonschema::ValidationError<'static>>> {
        let key = schema.to_string();
        if let Some(found) = self.lock().get(&key) {
            return Ok(Arc::clone(found));
        }
        let compiled = Arc::new(jsonschema::validator_for(schema).map_err(Box::new)?);
        let mut all = self.lock();
        if all.len() >= MAX_VALIDATORS {
            all.clear();
        }
        all.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Validator>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(validators: &Validators, schema: Option<&Value>, arguments: &str) -> Result<Value, ToolError> {
        validators.check("t", schema, arguments)
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_place() {
        let validators = Validators::default();
        let schema = json!({"type": "object", "properties": {"ids": {"type": "array", "items": {"type": "integer"}}},
            "required": ["ids"], "additionalProperties": false});
        assert_eq!(check(&validators, Some(&schema), r#"{"ids":[1]}"#), Ok(json!({"ids": [1]})));
        for (arguments, expected) in [
            ("", "\"ids\" is a required property"),
            ("{", "not JSON"),
            ("[]", "must be a JSON object"),
            (r#"{"ids":[1,"x"]}"#, "/ids/1: "),
            (r#"{"ids":[],"more":1}"#, "more"),
        ] {
            let error = check(&validators, Some(&schema), arguments).unwrap_err();
            assert!(matches!(error, ToolError::Arguments { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{arguments}: {error}");
        }
        assert_eq!(validators.lock().len(), 1, "compiled once");
    }

    #[test]
    fn without_a_schema_any_object_fits() {
        assert_eq!(check(&Validators::default(), None, " "), Ok(json!({})));
    }

    #[test]
    fn a_broken_schema_makes_the_tool_unavailable_and_nothing_is_fetched() {
        for schema in [json!({"type": "objekt"}), json!({"$ref": "http://localhost:1/schema.json"})] {
            let error = check(&Validators::default(), Some(&schema), "{}").unwrap_err();
            assert!(matches!(error, ToolError::Unavailable { .. }), "{error}");
        }
    }
}
