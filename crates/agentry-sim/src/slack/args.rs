//! Arguments of a Web API call: JSON, a form, or the query.

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};

#[derive(Debug, Default)]
pub(super) struct Args {
    fields: Map<String, Value>,
    token: Option<String>,
}

impl Args {
    /// Reads the arguments, or returns Slack's error code.
    pub(super) fn read(headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Self, &'static str> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut fields: Map<String, Value> = pairs(query.unwrap_or_default().as_bytes());
        if kind.starts_with("application/json") {
            match serde_json::from_slice(body) {
                Ok(Value::Object(more)) => fields.extend(more),
                Ok(_) => return Err("json_not_object"),
                Err(_) => return Err("invalid_json"),
            }
        } else if kind.starts_with("application/x-www-form-urlencoded") {
            fields.extend(pairs(body));
        } else if !body.is_empty() {
            return Err("invalid_post_type");
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(|token| token.trim().to_owned());
        let field = fields.remove("token").and_then(|token| token.as_str().map(str::to_owned));
        Ok(Self { fields, token: bearer.or(field).filter(|token| !token.is_empty()) })
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Returns a text; `None` when it is missing or empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// Returns a structured argument, given as JSON or as JSON within a text.
    pub(super) fn json(&self, name: &str) -> Result<Option<Value>, ()> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => serde_json::from_str(text).map(Some).map_err(|_| ()),
            Some(value) => Ok(Some(value.clone())),
        }
    }

    /// Returns true when the argument is set to a true value.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.fields.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => matches!(text.as_str(), "true" | "1"),
            Some(Value::Number(number)) => number.as_u64() == Some(1),
            _ => false,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<usize> {
        let number = match self.fields.get(name)? {
            Value::Number(number) => number.as_u64()?,
            Value::String(text) => text.parse().ok()?,
            _ => return None,
        };
        usize::try_from(number).ok()
    }
}

fn pairs(text: &[u8]) -> Map<String, Value> {
    form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &'static str, body: &str) -> Result<Args, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        Args::read(&headers, Some("limit=5"), body.as_bytes())
    }

    #[test]
    fn json_and_forms_are_the_same() {
        let form = read("application/x-www-form-urlencoded", "token=t&text=a%20b&blocks=%5B%5D&on=true").unwrap();
        let json =
            read("application/json; charset=utf-8", r#"{"token":"t","text":"a b","blocks":[],"on":true}"#).unwrap();
        for args in [form, json] {
            assert_eq!((args.token(), args.text("text"), args.flag("on")), (Some("t"), Some("a b"), true));
            assert_eq!((args.json("blocks"), args.number("limit")), (Ok(Some(Value::Array(vec![]))), Some(5)));
        }
        assert_eq!(read("application/json", "{").unwrap_err(), "invalid_json");
        assert_eq!(read("text/plain", "x").unwrap_err(), "invalid_post_type");
    }
}
