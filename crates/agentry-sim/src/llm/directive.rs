//! Directives: what a test or an example writes into a message to have it answered in a certain way.

use std::time::Duration;

/// The longest extra wait.
const MAX_SLEEP: Duration = Duration::from_secs(600);

/// Something a message asks of the simulator; see the crate's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Directive<'a> {
    Tool { name: &'a str, arguments: &'a str },
    Ask { question: &'a str, options: Vec<&'a str> },
    Say(&'a str),
    Fail { status: u16, times: Option<u32> },
    Sleep(Duration),
    Hang,
    Html,
    Truncate,
    BadPlan { always: bool },
}

/// One directive, and its text with the brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) directive: Directive<'a>,
    pub(super) text: &'a str,
}

/// Every directive of a text, in order. What is not one is text.
pub(super) fn find(text: &str) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("[[") {
        let Some(length) = closing(&rest[start..]) else { break };
        let whole = &rest[start..start + length];
        match parse(&whole[2..whole.len() - 2]) {
            Some(directive) => {
                found.push(Found { directive, text: whole });
                rest = &rest[start + length..];
            }
            None => rest = &rest[start + 2..],
        }
    }
    found
}

/// The text without its directives, with the space they leave closed up.
pub(super) fn strip(text: &str) -> String {
    let mut plain = text.to_owned();
    for found in find(text) {
        plain = plain.replacen(found.text, "", 1);
    }
    if plain.len() == text.len() { plain } else { plain.split_whitespace().collect::<Vec<_>>().join(" ") }
}

/// The length up to the `]]` that closes the `[[` at the start; `]]` within JSON brackets or quotes does not.
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
        "fail" => {
            let (status, times) = value.split_once(':').map_or((value, None), |(status, times)| (status, Some(times)));
            let status = status.trim().parse().ok().filter(|status| (400..600).contains(status))?;
            Some(Directive::Fail { status, times: times.map(|times| times.trim().parse()).transpose().ok()? })
        }
        "sleep" => {
            let wait = Duration::from_millis(value.trim().parse().ok()?);
            Some(Directive::Sleep(wait.min(MAX_SLEEP)))
        }
        "hang" => Some(Directive::Hang),
        "html" => Some(Directive::Html),
        "truncate" => Some(Directive::Truncate),
        "badplan" => Some(Directive::BadPlan { always: value.trim() == "always" }),
        _ => None,
    }
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
        assert_eq!(only("[[fail:429]]"), Directive::Fail { status: 429, times: None });
        assert_eq!(only("[[fail:500:2]]"), Directive::Fail { status: 500, times: Some(2) });
        assert_eq!(only("[[sleep:20]]"), Directive::Sleep(Duration::from_millis(20)));
        assert_eq!(only("[[hang]]"), Directive::Hang);
        assert_eq!(only("[[html]]"), Directive::Html);
        assert_eq!(only("[[truncate]]"), Directive::Truncate);
        assert_eq!(only("[[badplan]]"), Directive::BadPlan { always: false });
        assert_eq!(only("[[badplan:always]]"), Directive::BadPlan { always: true });
    }

    #[test]
    fn what_is_no_directive_is_text() {
        for text in ["[[", "[[]]", "[[fail:700]]", "[[fail:x]]", "[[wiki]]", "[[ask:]]", "]] [[hang", "[[sleep:-1]]"] {
            assert_eq!(find(text), [], "{text}");
            assert_eq!(strip(text), text);
        }
    }

    #[test]
    fn stripping_leaves_the_sentence() {
        assert_eq!(strip("Compare [[sleep:5]] the two [[ask:Which?|a]]"), "Compare the two");
    }
}
