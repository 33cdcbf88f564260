//! Names of MCP tools in the model's view.
//!
//! `server__tool`, always, even without a collision: the name of a tool must not change because a server was added or
//! removed, because conversations and journals contain it. Providers accept up to 64 letters, digits, `-` and `_`;
//! longer names end with a hash of the whole.

use std::collections::HashSet;

use agentry_core::agent::{AgentSpec, ToolSpec};
use sha2::{Digest, Sha256};

const MAX_NAME: usize = 64;
/// Longest part of the name that the server's name takes.
const MAX_SERVER: usize = 32;
const SEPARATOR: &str = "__";

/// Returns the tool of an agent file that a name belongs to. It depends on the name alone, so that it is the same after
/// a restart and while a server is unavailable.
pub(crate) fn owner<'s>(spec: &'s AgentSpec, name: &str) -> Option<&'s ToolSpec> {
    if let Some(tool) = spec.tools.iter().find(|tool| *tool.name == *name) {
        return Some(tool);
    }
    let servers = spec.tools.iter().filter(|tool| tool.kind.is_server());
    servers.filter(|tool| name.starts_with(&prefix(&tool.name))).max_by_key(|tool| tool.name.len())
}

/// Returns the prefix of the names of a server's tools.
fn prefix(server: &str) -> String {
    format!("{}{SEPARATOR}", fitted(server, server, MAX_SERVER))
}

/// Returns the names of a server's tools, in their order; all different.
pub(crate) fn offered<'t>(server: &str, tools: impl Iterator<Item = &'t str>) -> Vec<String> {
    let prefix = prefix(server);
    let mut taken = HashSet::new();
    let mut names = Vec::new();
    for tool in tools {
        let plain: String =
            tool.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }).collect();
        let mut name = format!("{prefix}{}", fitted(&plain, tool, MAX_NAME - prefix.len()));
        if taken.contains(&name) {
            name = format!("{prefix}{}", hashed(&plain, tool, MAX_NAME - prefix.len()));
        }
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

/// Returns `text`, or its beginning and a hash of `whole` when it is longer than `room`.
fn fitted(text: &str, whole: &str, room: usize) -> String {
    if text.len() <= room { text.to_owned() } else { hashed(text, whole, room) }
}

fn hashed(text: &str, whole: &str, room: usize) -> String {
    let hash: String = Sha256::digest(whole.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let end = text.floor_char_boundary(room.saturating_sub(hash.len() + 1));
    format!("{}_{hash}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(server: &str, tools: &[&str]) -> Vec<String> {
        offered(server, tools.iter().copied())
    }

    #[test]
    fn a_tool_is_called_after_its_server() {
        assert_eq!(names("fs", &["read_file", "list"]), ["fs__read_file", "fs__list"]);
    }

    #[test]
    fn every_name_fits_and_is_different() {
        let long = "x".repeat(100);
        let longer = format!("{long}y");
        let tools = ["a.b", "a/b", "a b", "ä", long.as_str(), longer.as_str(), ""];
        for server in ["fs", "a-server-with-a-name-that-goes-on-and-on-until-it-has-reached-sixty"] {
            let names = names(server, &tools);
            assert_eq!(names.iter().collect::<HashSet<_>>().len(), tools.len(), "{names:?}");
            for name in &names {
                assert!(name.len() <= MAX_NAME, "{name}");
                assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')), "{name}");
                assert!(name.starts_with(&prefix(server)), "{name}");
            }
        }
        assert_eq!(names("fs", &["a.b"]), names("fs", &["a.b", "c"])[..1], "others do not change a name");
    }
}
