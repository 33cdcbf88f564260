//! Structured output in protocols that have no `response_format`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::Call;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form<'a> {
    Text,
    Schema(Cow<'a, Value>),
}

/// Returns the form that a call requests: the agent file's `response_format`, or else the request's schema.
pub(crate) fn form(call: &Call) -> Form<'_> {
    if let Some(given) = &call.response_format {
        let schema = given.pointer("/json_schema/schema").or_else(|| given.get("schema"));
        return match (given.get("type").and_then(Value::as_str), schema) {
            (Some("json_schema"), Some(schema)) => Form::Schema(Cow::Borrowed(schema)),
            (Some("json_object"), _) => Form::Schema(Cow::Owned(json!({"type": "object"}))),
            _ if given.as_str() == Some("json") => Form::Schema(Cow::Owned(json!({"type": "object"}))),
            _ => Form::Text,
        };
    }
    call.request.output_schema.as_ref().map_or(Form::Text, |schema| Form::Schema(Cow::Borrowed(schema)))
}

/// Schema of the tool whose arguments are the answer. Tools take objects, so any other schema is wrapped in one.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct AnswerSchema<'a> {
    schema: Cow<'a, Value>,
}

/// Returns true when answers of this schema must be wrapped in an object.
pub(super) fn must_be_wrapped(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) != Some("object")
}

impl<'a> AnswerSchema<'a> {
    pub fn new(schema: Cow<'a, Value>) -> Self {
        if !must_be_wrapped(&schema) {
            return Self { schema };
        }
        let wrapped = json!({"type": "object", "properties": {"answer": schema}, "required": ["answer"]});
        Self { schema: Cow::Owned(wrapped) }
    }

    pub fn into_schema(self) -> Cow<'a, Value> {
        self.schema
    }
}

pub(crate) fn unwrapped(text: &str) -> Option<String> {
    let mut fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    Some(fields.remove("answer")?.to_string())
}

/// Returns a tool call's arguments as an object; invalid arguments become an empty one.
pub(crate) fn object_or_empty(arguments: &str) -> &RawValue {
    let text = arguments.trim();
    let read = || serde_json::from_str::<&RawValue>(text).ok().filter(|_| text.starts_with('{'));
    read().unwrap_or_else(|| serde_json::from_str("{}").unwrap_or(RawValue::NULL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;

    #[test]
    fn the_files_format_wins_over_the_schema() {
        let mut call = call("");
        assert_eq!(form(&call), Form::Text);
        call.request.output_schema = Some(json!({"type": "array"}));
        assert_eq!(form(&call), Form::Schema(Cow::Owned(json!({"type": "array"}))));
        call.response_format = Some(json!({"type": "json_schema", "json_schema": {"schema": {"type": "string"}}}));
        assert_eq!(form(&call), Form::Schema(Cow::Owned(json!({"type": "string"}))));
        call.response_format = Some(json!({"type": "text"}));
        assert_eq!(form(&call), Form::Text);
    }

    #[test]
    fn what_is_no_object_is_put_into_one_and_taken_out_again() {
        let list = json!({"type": "array"});
        let wrapped = serde_json::to_value(AnswerSchema::new(Cow::Borrowed(&list))).unwrap();
        assert_eq!((&wrapped["type"], &wrapped["properties"]["answer"]), (&json!("object"), &list));
        assert_eq!(unwrapped(r#"{"answer": [1, 2]}"#).as_deref(), Some("[1,2]"));
        let object = json!({"type": "object"});
        assert_eq!(serde_json::to_value(AnswerSchema::new(Cow::Borrowed(&object))).unwrap(), object);
    }

    #[test]
    fn arguments_that_are_no_object_are_an_empty_one() {
        assert_eq!(object_or_empty(r#" {"a":1}"#).get(), r#"{"a":1}"#);
        for bad in ["", "[1]", "{", "no"] {
            assert_eq!(object_or_empty(bad).get(), "{}", "{bad}");
        }
    }
}
