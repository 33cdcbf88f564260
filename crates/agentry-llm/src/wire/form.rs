//! Structured output: the form that is asked for, and the way to ask for it.

use std::borrow::Cow;

use agentry_core::agent::Effort;
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

/// The way in which a model is asked for an answer of a schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AnswerBy<'a> {
    /// There is no schema.
    Text,
    /// The provider holds the answer to the schema.
    Schema(Value),
    /// The answer is the arguments of [`super::ANSWER_TOOL`], which the model is forced to call.
    Tool(Cow<'a, Value>),
    /// The model is told in the system text.
    Words(String),
}

/// Returns the way in which this model takes the schema of a call, in protocols like Anthropic's. Whatever the way, the
/// answer is checked.
pub(crate) fn answer_by(call: &Call) -> AnswerBy<'_> {
    let Form::Schema(schema) = form(call) else { return AnswerBy::Text };
    let is_native = call.traits.native_schema;
    if let Some(closed) = is_native.then(|| closed(&AnswerSchema::new(Cow::Borrowed(&*schema)).schema)).flatten() {
        return AnswerBy::Schema(closed);
    }
    let thinks = call.params.reasoning.is_some_and(|effort| effort != Effort::None);
    if call.traits.forced_tool_choice && !thinks {
        return AnswerBy::Tool(AnswerSchema::new(schema).into_schema());
    }
    AnswerBy::Words(in_words(&schema))
}

/// Returns the instruction to answer with JSON of this schema.
pub(crate) fn in_words(schema: &Value) -> String {
    format!("Answer with nothing but JSON that fits this schema: {schema}")
}

/// Bounds that providers refuse in schemas, and that are checked when the answer is there.
const CHECKED_LATER: [&str; 14] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
];

/// Returns a schema that is closed everywhere and has no bounds, which every value that fits it must meet besides;
/// `None` if the schema cannot be closed or says what providers do not take.
fn closed(schema: &Value) -> Option<Value> {
    let fields = schema.as_object()?;
    let mut sent = Map::new();
    for (keyword, value) in fields {
        let value = match keyword.as_str() {
            keyword if CHECKED_LATER.contains(&keyword) => continue,
            "properties" | "$defs" => {
                let schemas = value.as_object()?.iter().map(|(name, one)| Some((name.clone(), closed(one)?)));
                Value::Object(schemas.collect::<Option<_>>()?)
            }
            "anyOf" => Value::Array(value.as_array()?.iter().map(closed).collect::<Option<_>>()?),
            "items" => closed(value)?,
            "type" | "enum" | "const" | "required" | "title" | "description" | "default" | "$ref" => value.clone(),
            "additionalProperties" if *value == Value::Bool(false) => continue,
            _ => return None,
        };
        sent.insert(keyword.clone(), value);
    }
    if fields.get("type").and_then(Value::as_str) == Some("object") || fields.contains_key("properties") {
        // An object of any fields cannot be closed.
        fields.get("properties").and_then(Value::as_object).filter(|properties| !properties.is_empty())?;
        sent.insert("additionalProperties".to_owned(), false.into());
    } else if !["type", "enum", "const", "anyOf", "$ref"].iter().any(|keyword| fields.contains_key(*keyword)) {
        return None;
    }
    Some(Value::Object(sent))
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

    #[test]
    fn a_schema_is_closed_where_that_is_possible() {
        let open = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}}},
            "required": ["n"]});
        let expected = json!({"type": "object", "properties": {"n": {"type": "integer"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}},
                "additionalProperties": false}}}, "required": ["n"], "additionalProperties": false});
        assert_eq!(closed(&open), Some(expected));
        for impossible in [
            json!({"type": "object"}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}]}}}),
            json!({"type": "object", "properties": {"a": {}}}),
            json!(true),
        ] {
            assert_eq!(closed(&impossible), None, "{impossible}");
        }
    }
}
