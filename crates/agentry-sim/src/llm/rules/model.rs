//! Which model an id names. Ids that name no real model are [`Model::Other`], of which nothing is refused.

use super::claude::{Claude, Line};
use super::gpt::{Gpt, Size};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::llm) enum Model {
    Claude(Claude),
    Gpt(Gpt),
    /// A Gemini and its major version.
    Gemini(u32),
    DeepSeek,
    Other,
}

/// Ids, or their beginnings up to a hyphen, that Anthropic has switched off.
const OFF_AT_ANTHROPIC: [&str; 9] = [
    "claude-2",
    "claude-3",
    "claude-instant",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-20250514",
    "claude-sonnet-4-0",
    "claude-sonnet-4-20250514",
    "claude-sonnet-4-5",
];
/// Ids, or their beginnings up to a hyphen, that OpenAI has switched off.
const OFF_AT_OPENAI: [&str; 7] = ["gpt-3.5", "gpt-4", "gpt-4.1-nano", "gpt-4o-2024-05-13", "o1", "o3-mini", "o4-mini"];
/// The only model whose end at Bedrock is certain.
const OFF_AT_BEDROCK: [&str; 1] = ["claude-3-7-sonnet"];

impl Model {
    pub(in crate::llm) fn of(id: &str) -> Self {
        let id = bare(id);
        if let Some(rest) = id.strip_prefix("claude-") {
            return claude(rest).map_or(Self::Other, Self::Claude);
        }
        if let Some(rest) = id.strip_prefix("gemini-") {
            return version(rest).map_or(Self::Other, |(major, _)| Self::Gemini(major));
        }
        if id.starts_with("deepseek-") {
            return Self::DeepSeek;
        }
        gpt(id).map_or(Self::Other, Self::Gpt)
    }
}

/// Returns true when the provider of this protocol has switched the model off.
pub(in crate::llm) fn is_retired(protocol: &str, id: &str) -> bool {
    let off: &[&str] = match protocol {
        "anthropic" => &OFF_AT_ANTHROPIC,
        "bedrock" => &OFF_AT_BEDROCK,
        "openai" | "responses" => &OFF_AT_OPENAI,
        _ => &[],
    };
    let id = bare(id);
    off.iter().any(|gone| id.strip_prefix(gone).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

/// Strips what Bedrock puts before a model: an ARN, the profile and the maker.
fn bare(id: &str) -> &str {
    let id = if id.starts_with("arn:") { id.rsplit('/').next().unwrap_or(id) } else { id };
    ["anthropic.", "openai."].iter().find_map(|maker| id.split_once(maker)).map_or(id, |(_, model)| model)
}

/// Returns true when a request to Bedrock names a model where an inference profile is needed.
pub(in crate::llm) fn lacks_profile(id: &str) -> bool {
    id.starts_with("anthropic.claude-") && matches!(Model::of(id), Model::Claude(claude) if claude.version >= (4, 0))
}

/// Reads `4.1-mini` and `4o`, the beginning of which is a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let head = text.split('-').next()?.trim_end_matches('o');
    let (major, minor) = head.split_once('.').unwrap_or((head, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn claude(rest: &str) -> Option<Claude> {
    let line = rest.split('-').find_map(|word| match word {
        "opus" => Some(Line::Opus),
        "sonnet" => Some(Line::Sonnet),
        "haiku" => Some(Line::Haiku),
        // Mythos is Fable for verified organizations.
        "fable" | "mythos" => Some(Line::Fable),
        _ => None,
    })?;
    // Longer numbers are dates.
    let mut numbers = rest.split('-').filter(|word| word.len() <= 2).filter_map(|word| word.parse().ok());
    Some(Claude { line, version: (numbers.next()?, numbers.next().unwrap_or(0)) })
}

fn gpt(id: &str) -> Option<Gpt> {
    let size = |name: &str| match name {
        "sol" => Size::Sol,
        "luna" => Size::Luna,
        "astra" => Size::Astra,
        "terra" => Size::Terra,
        _ => Size::Other,
    };
    if let Some(rest) = id.strip_prefix("gpt-") {
        return Some(Gpt {
            version: version(rest)?,
            is_o: false,
            size: size(rest.split('-').nth(1).unwrap_or_default()),
        });
    }
    let head = id.strip_prefix('o')?.split('-').next()?;
    Some(Gpt { version: (head.parse().ok()?, 0), is_o: true, size: Size::Other })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_models() {
        let claude = |line, version| Model::Claude(Claude { line, version });
        let gpt = |version, size| Model::Gpt(Gpt { version, is_o: false, size });
        for (id, model) in [
            ("claude-opus-5-5", claude(Line::Opus, (5, 5))),
            ("claude-haiku-4-5-20251001", claude(Line::Haiku, (4, 5))),
            ("claude-opus-4-20250514", claude(Line::Opus, (4, 0))),
            ("claude-3-7-sonnet-20250219", claude(Line::Sonnet, (3, 7))),
            ("claude-mythos-5-2", claude(Line::Fable, (5, 2))),
            ("us.anthropic.claude-opus-5-5", claude(Line::Opus, (5, 5))),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-sonnet-5",
                claude(Line::Sonnet, (5, 0)),
            ),
            ("gpt-6.2-sol", gpt((6, 2), Size::Sol)),
            ("global.openai.gpt-6-astra", gpt((6, 0), Size::Astra)),
            ("gpt-4o-mini", gpt((4, 0), Size::Other)),
            ("gpt-5.4-nano", gpt((5, 4), Size::Other)),
            ("o3", Model::Gpt(Gpt { version: (3, 0), is_o: true, size: Size::Other })),
            ("gemini-3.8-flash", Model::Gemini(3)),
            ("deepseek-flash", Model::DeepSeek),
        ] {
            assert_eq!(Model::of(id), model, "{id}");
        }
        for id in ["sim-small", "gpt-sim", "claude-sim", "anthropic.claude-sim-v1:0", "m", "gpt-oss-120b", "ollama", ""]
        {
            assert_eq!(Model::of(id), Model::Other, "{id}");
        }
    }

    #[test]
    fn what_was_switched_off_is_and_its_namesakes_are_not() {
        for (protocol, id) in [
            ("anthropic", "claude-sonnet-4-5-20250929"),
            ("anthropic", "claude-3-5-haiku-20241022"),
            ("openai", "gpt-4-turbo"),
            ("responses", "o4-mini"),
            ("bedrock", "us.anthropic.claude-3-7-sonnet-20250219-v1:0"),
        ] {
            assert!(is_retired(protocol, id), "{id}");
        }
        for (protocol, id) in [
            ("anthropic", "claude-opus-4-5"),
            ("anthropic", "claude-opus-4-8"),
            ("openai", "gpt-4o"),
            ("openai", "gpt-4.1-mini"),
            ("openai", "o3"),
            ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
            ("ollama", "gpt-4"),
        ] {
            assert!(!is_retired(protocol, id), "{id}");
        }
    }
}
