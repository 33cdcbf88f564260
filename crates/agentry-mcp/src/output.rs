//! Conversion of a tool's result to bounded text.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::Value;

use crate::server::McpOutput;

/// Longest output, in bytes; the rest is cut with a note.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// Converts a result for the model: texts are unchanged, other content is described by kind and size, structured
/// content is added as JSON unless a text repeats it.
pub(crate) fn output(result: CallToolResult) -> McpOutput {
    let mut text = Bounded::default();
    for block in &result.content {
        match block {
            ContentBlock::Text(block) => text.part(&block.text),
            ContentBlock::Image(image) => text.part(&blob("image", &image.mime_type, &image.data)),
            ContentBlock::Audio(audio) => text.part(&blob("audio", &audio.mime_type, &audio.data)),
            ContentBlock::Resource(embedded) => match &embedded.resource {
                ResourceContents::TextResourceContents { uri, text: content, .. } => {
                    text.part(&format!("[resource {uri}]"));
                    text.part(content);
                }
                ResourceContents::BlobResourceContents { uri, mime_type, blob: data, .. } => {
                    let kind = mime_type.as_deref().unwrap_or("of no type");
                    text.part(&blob(&format!("resource {uri}"), kind, data));
                }
                _ => text.part("[a resource of a kind that is not known]"),
            },
            ContentBlock::ResourceLink(link) => {
                let about = link.description.as_deref().unwrap_or_default();
                text.part(format!("[link to {} ({}) {about}", link.uri, link.name).trim_end());
                text.add("]");
            }
            _ => text.part("[content of a kind that is not known]"),
        }
    }
    if let Some(structured) = &result.structured_content
        && !says(&result.content, structured)
    {
        text.part(&structured.to_string());
    }
    McpOutput { text: text.end(), is_error: result.is_error.unwrap_or(false) }
}

/// Returns true when a text is this value as JSON, as the protocol requires of servers for older clients.
fn says(content: &[ContentBlock], structured: &Value) -> bool {
    content.iter().any(|block| {
        let ContentBlock::Text(block) = block else { return false };
        serde_json::from_str::<Value>(&block.text).is_ok_and(|value| value == *structured)
    })
}

/// Describes binary content, whose Base64 is of no use to a model.
fn blob(what: &str, kind: &str, base64: &str) -> String {
    format!("[{what}, {kind}, {} bytes, not shown]", base64.len() / 4 * 3)
}

#[derive(Default)]
struct Bounded {
    text: String,
    is_cut: bool,
}

impl Bounded {
    fn part(&mut self, part: &str) {
        if !self.text.is_empty() {
            self.add("\n");
        }
        self.add(part);
    }

    fn add(&mut self, part: &str) {
        let room = MAX_OUTPUT_BYTES - self.text.len().min(MAX_OUTPUT_BYTES);
        if part.len() > room {
            self.is_cut = true;
        }
        self.text.push_str(&part[..part.floor_char_boundary(room)]);
    }

    fn end(mut self) -> String {
        if self.is_cut {
            self.text.push_str(&format!("\n[cut: the first {MAX_OUTPUT_BYTES} bytes are shown]"));
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(result: Value) -> McpOutput {
        output(serde_json::from_value(result).unwrap())
    }

    #[test]
    fn every_kind_of_content_becomes_text() {
        let result = json!({"content": [
            {"type": "text", "text": "one"},
            {"type": "image", "data": "AAAAAAAA", "mimeType": "image/png"},
            {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
            {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "inside"}},
            {"type": "resource", "resource": {"uri": "file:///b", "mimeType": "application/zip", "blob": "AAAA"}},
            {"type": "resource_link", "uri": "file:///c", "name": "c", "description": "the third"},
            {"type": "resource_link", "uri": "file:///d", "name": "d"},
        ], "structuredContent": {"n": 1}, "isError": true});
        let expected = "one\n[image, image/png, 6 bytes, not shown]\n[audio, audio/wav, 3 bytes, not shown]\n\
            [resource file:///a.txt]\ninside\n[resource file:///b, application/zip, 3 bytes, not shown]\n\
            [link to file:///c (c) the third]\n[link to file:///d (d)]\n{\"n\":1}";
        assert_eq!(of(result), McpOutput { text: expected.into(), is_error: true });
    }

    #[test]
    fn structured_content_is_not_said_twice() {
        let same = json!({"content": [{"type": "text", "text": "{ \"n\": 1 }"}], "structuredContent": {"n": 1}});
        assert_eq!(of(same).text, "{ \"n\": 1 }");
        let alone = json!({"content": [], "structuredContent": {"n": 1}});
        assert_eq!(of(alone).text, "{\"n\":1}");
    }

    #[test]
    fn many_texts_together_are_cut_as_well() {
        let part = json!({"type": "text", "text": "ä".repeat(200_000)});
        let text = of(json!({"content": vec![part; 5]})).text;
        assert!(text.len() < MAX_OUTPUT_BYTES + 64 && text.ends_with("bytes are shown]"), "{}", text.len());
    }
}
