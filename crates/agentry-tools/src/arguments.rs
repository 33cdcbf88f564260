//! Validation against JSON Schemas: of tool arguments before anything is sent, and of answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::ToolError;

/// Largest number of compiled schemas; one more clears all of them.
const MAX_SCHEMAS: usize = 1_024;
const MAX_PROBLEMS: usize = 5;

/// Returns the schema of a tool without one.
pub(crate) fn any_object() -> Value {
    json!({"type": "object"})
}

/// Compiled schemas, by their text.
#[derive(Debug, Default)]
pub struct Schemas {
    compiled: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Schemas {
    /// Returns the problem of a value that does not fit the schema, in words that a model can act on; also of a schema
    /// that is none.
    #[must_use]
    pub fn problem(&self, schema: &Value, value: &Value) -> Option<String> {
        match self.validator(schema) {
            Ok(validator) => problems(&validator, value),
            Err(reason) => Some(format!("the schema itself is not a JSON Schema: {reason}")),
        }
    }

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
        match problems(&validator, &value) {
            None => Ok(value),
            Some(problems) => Err(problem(problems)),
        }
    }

    fn validator(&self, schema: &Value) -> Result<Arc<Validator>, Box<jsonschema::ValidationError<'static>>> {
        let key = schema.to_string();
        if let Some(found) = self.lock().get(&key) {
            return Ok(Arc::clone(found));
        }
        let compiled = Arc::new(jsonschema::validator_for(schema).map_err(Box::new)?);
        let mut all = self.lock();
        if all.len() >= MAX_SCHEMAS {
            all.clear();
        }
        all.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Validator>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the first problems of a value, with their places in it.
fn problems(validator: &Validator, value: &Value) -> Option<String> {
    let problems: Vec<String> = validator
        .iter_errors(value)
        .take(MAX_PROBLEMS)
        .map(|error| match error.instance_path().to_string() {
            path if path.is_empty() => error.to_string(),
            path => format!("{path}: {error}"),
        })
        .collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(validators: &Schemas, schema: Option<&Value>, arguments: &str) -> Result<Value, ToolError> {
        validators.check("t", schema, arguments)
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_place() {
        let validators = Schemas::default();
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
        assert_eq!(check(&Schemas::default(), None, " "), Ok(json!({})));
    }

    #[test]
    fn a_broken_schema_makes_the_tool_unavailable_and_nothing_is_fetched() {
        for schema in [json!({"type": "objekt"}), json!({"$ref": "http://localhost:1/schema.json"})] {
            let error = check(&Schemas::default(), Some(&schema), "{}").unwrap_err();
            assert!(matches!(error, ToolError::Unavailable { .. }), "{error}");
        }
    }
}
