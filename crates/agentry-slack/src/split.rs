//! Splitting of text at Slack's limits, so that each part is readable on its own.

/// Longest text of a post, in characters. Slack cuts texts at 40,000 and recommends at most 4,000.
pub const MAX_TEXT: usize = 4_000;
const FENCE: &str = "```";

/// Splits mrkdwn into parts of at most `limit` characters: between lines where possible, with code blocks closed at the
/// end of a part and opened again in the next. Only white space at cuts is lost.
#[must_use]
pub fn split(text: &str, limit: usize) -> Vec<String> {
    // Room for a closing fence, and for an opening one with its line break.
    let room = limit.saturating_sub(2 * FENCE.len() + 2).max(1);
    let mut parts = Vec::new();
    let mut part = Part::default();
    for line in text.split('\n') {
        // A piece fits into a part that has only opened a code block.
        for piece in pieces(line, room.saturating_sub(2).max(1)) {
            if part.chars + piece.chars().count() + 1 > room && part.chars > 0 {
                part = part.close_into(&mut parts);
            }
            part.push(piece);
        }
    }
    part.close_into(&mut parts);
    parts
}

/// Splits a line into pieces of at most `room` characters, at spaces that are late enough.
fn pieces(line: &str, room: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let Some((end, _)) = line.char_indices().nth(room) else {
            rest = None;
            return Some(line);
        };
        let space = line[..end].rfind(' ').filter(|at| *at > end / 2);
        let end = space.unwrap_or_else(|| before_entity(line, end));
        rest = Some(line[end..].trim_start_matches(' '));
        Some(&line[..end])
    })
}

/// Moves a cut out of entities such as `&amp;`.
fn before_entity(line: &str, end: usize) -> usize {
    let open = line[..end].rfind('&').filter(|at| end - at < 5 && !line[*at..end].contains(';'));
    open.filter(|at| *at > 0).unwrap_or(end)
}

#[derive(Default)]
struct Part {
    text: String,
    chars: usize,
    in_code: bool,
}

impl Part {
    fn push(&mut self, line: &str) {
        if self.chars > 0 {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.chars += line.chars().count() + 1;
        if line.matches(FENCE).count() % 2 == 1 {
            self.in_code = !self.in_code;
        }
    }

    /// Ends this part; the next one continues the code block.
    fn close_into(mut self, parts: &mut Vec<String>) -> Self {
        let mut next = Self::default();
        if self.in_code {
            self.text.push('\n');
            self.text.push_str(FENCE);
            next.push(FENCE);
            // The opening fence uses reserved room and is no content.
            next.chars = 1;
        }
        if !self.text.replace(FENCE, "").trim().is_empty() {
            parts.push(self.text);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_text_is_one_part() {
        assert_eq!(split("a\n\nb", 100), ["a\n\nb"]);
        assert!(split("", 100).is_empty() && split(" \n ", 100).is_empty());
    }

    #[test]
    fn lines_stay_whole_where_they_can() {
        let parts = split("one two\nthree four\nfive", 26);
        assert_eq!(parts, ["one two", "three four\nfive"]);
    }

    #[test]
    fn long_lines_are_cut_at_spaces_and_never_inside_an_entity() {
        assert_eq!(split("aaaa bbbb cccc", 20), ["aaaa bbbb", "cccc"]);
        for part in split(&"x&amp;".repeat(50), 30) {
            assert!(!part.ends_with("&am") && !part.starts_with("p;"), "{part}");
        }
    }

    #[test]
    fn a_code_block_is_closed_and_opened_again() {
        let text = format!("{FENCE}\n{}\n{FENCE}\nafter", ["let x = 1;"; 10].join("\n"));
        let parts = split(&text, 60);
        assert!(parts.len() > 2);
        for part in &parts {
            assert_eq!(part.matches(FENCE).count() % 2, 0, "{part}");
            assert!(part.chars().count() <= 60, "{part}");
        }
        assert_eq!(parts.join("\n").matches("let x = 1;").count(), 10);
    }

    proptest! {
        #[test]
        fn parts_fit_and_nothing_is_lost(
            lines in proptest::collection::vec("(```|[a-zäß&;<> *]{0,80})", 0..40),
            limit in 20_usize..200,
        ) {
            let text = lines.join("\n");
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != '`').collect::<String>();
            let parts = split(&text, limit);
            for part in &parts {
                prop_assert!(part.chars().count() <= limit, "{} > {limit}: {part:?}", part.chars().count());
            }
            prop_assert_eq!(letters(&parts.concat()), letters(&text));
        }
    }
}
