//! Directives that a test or an example writes into a message to control its answer.

use std::time::Duration;

use super::fault::{DRIP_INTERVAL, Fault};

/// Upper bound of `[[sleep]]` and of the interval of `[[drip]]`.
const MAX_SLEEP: Duration = Duration::from_secs(600);

/// An instruction to the simulator; the crate's documentation lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Directive<'a> {
    Tool {
        name: &'a str,
        arguments: &'a str,
    },
    Ask {
        question: &'a str,
        options: Vec<&'a str>,
    },
    Say(&'a str),
    Together,
    Long(u64),
    Refuse,
    /// Pauses in the middle of a tool of the provider.
    Pause,
    /// Cuts the answer as the token limit does.
    Cut,
    /// Answers with nothing.
    Empty,
    /// Reports no usage.
    NoUsage,
    Reason(u64),
    Cached(u64),
    Written(u64),
    Fail {
        status: u16,
        times: Option<u32>,
        retry_after: Option<u32>,
    },
    Sleep(Duration),
    Drip(Duration),
    /// A fault that has no directive of its own above.
    Fault(Fault),
    BadPlan {
        always: bool,
    },
}

/// A directive and its text, brackets included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirectiveMatch<'a> {
    pub(super) directive: Directive<'a>,
    pub(super) text: &'a str,
}

/// Finds the directives of a text, in order. Anything that does not parse stays text.
pub(super) fn find(text: &str) -> Vec<DirectiveMatch<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("[[") {
        let Some(length) = closing(&rest[start..]) else { break };
        let whole = &rest[start..start + length];
        match parse(&whole[2..whole.len() - 2]) {
            Some(directive) => {
                found.push(DirectiveMatch { directive, text: whole });
                rest = &rest[start + length..];
            }
            None => rest = &rest[start + 2..],
        }
    }
    found
}

/// Removes the directives from a text and collapses the remaining white space.
pub(super) fn strip(text: &str) -> String {
    let mut plain = text.to_owned();
    for found in find(text) {
        plain = plain.replacen(found.text, "", 1);
    }
    if plain.len() == text.len() { plain } else { plain.split_whitespace().collect::<Vec<_>>().join(" ") }
}

/// Returns the length up to the `]]` that closes the `[[` at the start. A `]]` within JSON braces or quotes does not
/// close it.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut quoted, mut at) = (0_u32, false, 2);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quoted => at += 1,
            b'"' if depth > 0 => quoted = !quoted,
            _ if quoted => {}
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b']' if depth == 0 && bytes.get(at + 1) == Some(&b']') => return Some(at + 2),
            _ => {}
        }
        at += 1;
    }
    None
}

fn parse(inner: &str) -> Option<Directive<'_>> {
    let (word, value) = inner.split_once(':').unwrap_or((inner, ""));
    match word.trim() {
        "tool" => {
            let (name, arguments) = value.trim().split_once(char::is_whitespace).unwrap_or((value.trim(), "{}"));
            (!name.is_empty()).then_some(Directive::Tool { name, arguments: arguments.trim() })
        }
        "ask" => {
            let mut parts = value.split('|').map(str::trim).filter(|part| !part.is_empty());
            Some(Directive::Ask { question: parts.next()?, options: parts.collect() })
        }
        "say" => Some(Directive::Say(value.trim())),
        "together" => Some(Directive::Together),
        "long" => Some(Directive::Long(value.trim().parse().ok()?)),
        "refuse" => Some(Directive::Refuse),
        "pause" => Some(Directive::Pause),
        "cut" => Some(Directive::Cut),
        "empty" => Some(Directive::Empty),
        "nousage" => Some(Directive::NoUsage),
        "reason" => Some(Directive::Reason(value.trim().parse().ok()?)),
        "cached" => Some(Directive::Cached(value.trim().parse().ok()?)),
        "written" => Some(Directive::Written(value.trim().parse().ok()?)),
        "fail" => fail(value),
        "sleep" => {
            let wait = Duration::from_millis(value.trim().parse().ok()?);
            Some(Directive::Sleep(wait.min(MAX_SLEEP)))
        }
        "drip" if value.is_empty() => Some(Directive::Drip(DRIP_INTERVAL)),
        "drip" => Some(Directive::Drip(Duration::from_millis(value.trim().parse().ok()?).min(MAX_SLEEP))),
        "break" => status(value).map(|status| Directive::Fault(Fault::Break(status))),
        "badplan" => Some(Directive::BadPlan { always: value.trim() == "always" }),
        word => Fault::named(word).map(Directive::Fault),
    }
}

/// Parses `STATUS[:TIMES[:RETRY_AFTER]]`; without `TIMES` every request fails.
fn fail(value: &str) -> Option<Directive<'_>> {
    let mut parts = value.split(':').map(str::trim);
    let status = status(parts.next()?)?;
    let mut number = || match parts.next() {
        None | Some("") => Some(None),
        Some(text) => text.parse::<u32>().ok().map(Some),
    };
    Some(Directive::Fail { status, times: number()?, retry_after: number()? })
}

fn status(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|status| (400..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Directive<'_> {
        let mut all = find(text);
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0).directive
    }

    #[test]
    fn every_directive_is_read() {
        let tool = only(r#"please [[tool:find {"ids":[[1],[2]],"s":"]]}"}]] now"#);
        assert_eq!(tool, Directive::Tool { name: "find", arguments: r#"{"ids":[[1],[2]],"s":"]]}"}"# });
        assert_eq!(only("[[tool:now]]"), Directive::Tool { name: "now", arguments: "{}" });
        assert_eq!(
            only("[[ask:Which region?|EU|US]]"),
            Directive::Ask { question: "Which region?", options: vec!["EU", "US"] }
        );
        assert_eq!(only("[[say:Hello: you]]"), Directive::Say("Hello: you"));
        let fail = |status, times, retry_after| Directive::Fail { status, times, retry_after };
        assert_eq!(only("[[fail:429]]"), fail(429, None, None));
        assert_eq!(only("[[fail:500:2]]"), fail(500, Some(2), None));
        assert_eq!(only("[[fail:429::7]]"), fail(429, None, Some(7)));
        assert_eq!(only("[[sleep:20]]"), Directive::Sleep(Duration::from_millis(20)));
        assert_eq!(only("[[drip:3]]"), Directive::Drip(Duration::from_millis(3)));
        assert_eq!(only("[[together]]"), Directive::Together);
        assert_eq!(only("[[long:80]]"), Directive::Long(80));
        assert_eq!(only("[[refuse]]"), Directive::Refuse);
        assert_eq!(only("[[pause]]"), Directive::Pause);
        assert_eq!(only("[[cut]]"), Directive::Cut);
        assert_eq!(only("[[empty]]"), Directive::Empty);
        assert_eq!(only("[[nousage]]"), Directive::NoUsage);
        assert_eq!(only("[[reason:8]]"), Directive::Reason(8));
        assert_eq!(only("[[cached:8]]"), Directive::Cached(8));
        assert_eq!(only("[[written:8]]"), Directive::Written(8));
        assert_eq!(only("[[break:529]]"), Directive::Fault(Fault::Break(529)));
        for (text, fault) in [
            ("[[hang]]", Fault::Hang),
            ("[[html]]", Fault::Html),
            ("[[truncate]]", Fault::Truncate),
            ("[[garble]]", Fault::Garble),
            ("[[endless]]", Fault::Endless),
            ("[[disconnect]]", Fault::Disconnect),
        ] {
            assert_eq!(only(text), Directive::Fault(fault), "{text}");
        }
        assert_eq!(only("[[badplan]]"), Directive::BadPlan { always: false });
        assert_eq!(only("[[badplan:always]]"), Directive::BadPlan { always: true });
    }

    #[test]
    fn what_is_no_directive_is_text() {
        for text in [
            "[[",
            "[[]]",
            "[[fail:700]]",
            "[[fail:x]]",
            "[[fail:500:x]]",
            "[[fail]]",
            "[[drip:x]]",
            "[[break]]",
            "[[wiki]]",
            "[[ask:]]",
            "]] [[hang",
            "[[sleep:-1]]",
        ] {
            assert_eq!(find(text), [], "{text}");
            assert_eq!(strip(text), text);
        }
    }

    #[test]
    fn stripping_leaves_the_sentence() {
        assert_eq!(strip("Compare [[sleep:5]] the two [[ask:Which?|a]]"), "Compare the two");
    }
}
