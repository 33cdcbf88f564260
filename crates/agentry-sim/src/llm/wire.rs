//! A request as it comes over the wire, borrowed from the body wherever it can be.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// `POST /v1/chat/completions`, as far as the simulator looks at it. Unknown fields are ignored, as OpenAI's
/// compatible servers do.
#[derive(Debug, Deserialize)]
pub(super) struct Request<'a> {
    /// The model asked for; any name is taken.
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
    /// The conversation.
    #[serde(borrow)]
    pub(super) messages: Vec<WireMessage<'a>>,
    /// The tools offered.
    #[serde(borrow, default)]
    pub(super) tools: Vec<Offer<'a>>,
    /// What form the answer must have.
    #[serde(borrow)]
    pub(super) response_format: Option<&'a RawValue>,
    /// Whether to stream.
    pub(super) stream: Option<bool>,
    /// What to add to the stream.
    pub(super) stream_options: Option<StreamOptions>,
}

/// One message.
#[derive(Debug, Deserialize)]
pub(super) struct WireMessage<'a> {
    /// system, developer, user, assistant or tool.
    #[serde(borrow)]
    pub(super) role: Cow<'a, str>,
    /// The text; empty when there is none.
    #[serde(borrow, default, deserialize_with = "content")]
    pub(super) content: Cow<'a, str>,
}

/// `stream_options`.
#[derive(Debug, Deserialize)]
pub(super) struct StreamOptions {
    /// Whether a last chunk tells the usage.
    #[serde(default)]
    pub(super) include_usage: bool,
}

/// A tool offered.
#[derive(Debug, Deserialize)]
pub(super) struct Offer<'a> {
    /// It.
    #[serde(borrow)]
    pub(super) function: OfferedFunction<'a>,
}

/// A function offered.
#[derive(Debug, Deserialize)]
pub(super) struct OfferedFunction<'a> {
    /// Its name.
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
}

impl Request<'_> {
    /// Whether a tool of this name is offered.
    pub(super) fn offers(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.function.name == name)
    }

    /// Tokens of all messages: characters divided by four, rounded up.
    pub(super) fn tokens(&self) -> u64 {
        self.messages.iter().map(|message| message.content.chars().count() as u64).sum::<u64>().div_ceil(4)
    }
}

/// The schema of `response_format`, when it is a `json_schema`.
#[derive(Deserialize)]
struct Format {
    r#type: String,
    json_schema: Option<NamedSchema>,
}

#[derive(Deserialize)]
struct NamedSchema {
    schema: Option<serde_json::Value>,
}

/// What form an answer must have.
pub(super) enum Form {
    /// Free text.
    Text,
    /// Any JSON object.
    Object,
    /// What this schema says.
    Schema(serde_json::Value),
}

/// Reads `response_format`.
pub(super) fn form(raw: Option<&RawValue>) -> Form {
    let Some(format) = raw.and_then(|raw| serde_json::from_str::<Format>(raw.get()).ok()) else { return Form::Text };
    match (format.r#type.as_str(), format.json_schema.and_then(|named| named.schema)) {
        ("json_schema", Some(schema)) => Form::Schema(schema),
        ("json_schema" | "json_object", _) => Form::Object,
        _ => Form::Text,
    }
}

/// Text is a string, null, or a list of parts of which those with text count.
fn content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    deserializer.deserialize_any(ContentVisitor)
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, null or a list of content parts")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        struct Part {
            text: Option<String>,
            #[serde(rename = "image_url")]
            _image: Option<IgnoredAny>,
        }
        let mut text = String::new();
        while let Some(part) = parts.next_element::<Part>()? {
            text.push_str(part.text.as_deref().unwrap_or_default());
        }
        Ok(Cow::Owned(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_a_string_null_or_parts() {
        let body = r#"{"model":"m","temperature":1,"messages":[
            {"role":"user","content":"plain"},{"role":"user","content":"with \"escape\""},
            {"role":"assistant","content":null,"tool_calls":[]},{"role":"assistant"},
            {"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"b"}]}]}"#;
        let request: Request<'_> = serde_json::from_str(body).unwrap();
        let texts: Vec<_> = request.messages.iter().map(|message| message.content.as_ref()).collect();
        assert_eq!(texts, ["plain", "with \"escape\"", "", "", "ab"]);
        assert!(matches!(request.messages[0].content, Cow::Borrowed(_)));
    }

    #[test]
    fn tokens_are_characters_by_four_rounded_up() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"äöü"},{"role":"user","content":"ab"}]}"#;
        let request: Request<'_> = serde_json::from_str(body).unwrap();
        assert_eq!(request.tokens(), 2);
    }
}
