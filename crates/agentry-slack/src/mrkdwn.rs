//! Conversion of Markdown, as models write it, to Slack's mrkdwn.
//!
//! Slack's control characters are escaped everywhere, so that an answer cannot mention `@channel` or forge a link.

use pulldown_cmark::{Alignment, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

const BULLET: &str = "•";
const RULE: &str = "──────────";

/// Escapes the three characters with a meaning in mrkdwn.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Converts Markdown to mrkdwn. An incomplete document is converted as far as it goes, so that it may be shown while it
/// is generated.
#[must_use]
pub fn to_mrkdwn(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut writer = Writer::default();
    for event in Parser::new_ext(markdown, options) {
        writer.take(event);
    }
    writer.out.trim_end().to_owned()
}

struct List {
    /// Number of the next item; `None` for bullets.
    next: Option<u64>,
}

#[derive(Default)]
struct Writer {
    out: String,
    lists: Vec<List>,
    quotes: usize,
    in_code: bool,
    /// Start of the text of open links and images, with their addresses.
    links: Vec<(usize, String)>,
    table: Option<Table>,
    bold: usize,
}

/// A table, which becomes text in columns.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
    alignments: Vec<Alignment>,
}

impl Writer {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.in_code => self.lines(&escape(&text)),
            Event::Text(text) => self.push(&escape(&text)),
            Event::Code(text) => self.push(&format!("`{}`", escape(&text))),
            // Markup of another language is shown as text.
            Event::Html(text) | Event::InlineHtml(text) => self.lines(&escape(&text)),
            Event::SoftBreak | Event::HardBreak => self.line(),
            Event::Rule => {
                self.block();
                self.push(RULE);
            }
            Event::TaskListMarker(done) => self.push(if done { "☑ " } else { "☐ " }),
            Event::FootnoteReference(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.push(&escape(&text));
            }
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph => self.block(),
            Tag::Heading { level, .. } => {
                self.block();
                if level <= HeadingLevel::H2 && self.out.len() > self.prefix().len() {
                    self.line();
                }
                self.bold(true);
            }
            Tag::BlockQuote(_) => {
                self.block();
                self.quotes += 1;
                self.push("> ");
            }
            Tag::CodeBlock(_) => {
                self.block();
                self.push("```");
                self.line();
                self.in_code = true;
            }
            Tag::List(next) => {
                if self.lists.is_empty() {
                    self.block();
                }
                self.lists.push(List { next });
            }
            Tag::Item => self.item(),
            Tag::Emphasis => self.push("_"),
            Tag::Strong => self.bold(true),
            Tag::Strikethrough => self.push("~"),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.links.push((self.out.len(), dest_url.into_string()));
            }
            Tag::Table(alignments) => self.table = Some(Table { rows: Vec::new(), alignments }),
            Tag::TableHead | Tag::TableRow => {
                if let Some(table) = &mut self.table {
                    table.rows.push(Vec::new());
                }
            }
            Tag::TableCell => {
                if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
                    row.push(String::new());
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) | TagEnd::Strong => self.bold(false),
            TagEnd::BlockQuote(_) => self.quotes -= 1,
            TagEnd::CodeBlock => {
                self.in_code = false;
                if !self.out.ends_with('\n') && !self.out.ends_with("> ") {
                    self.line();
                }
                self.push("```");
            }
            TagEnd::List(_) => drop(self.lists.pop()),
            TagEnd::Emphasis => self.push("_"),
            TagEnd::Strikethrough => self.push("~"),
            TagEnd::Link | TagEnd::Image => self.link(),
            TagEnd::Table => self.table_ends(),
            _ => {}
        }
    }

    /// Appends text to the line or to a table cell.
    fn push(&mut self, text: &str) {
        match self.table.as_mut().and_then(|table| table.rows.last_mut()?.last_mut()) {
            Some(cell) => cell.push_str(text),
            None => self.out.push_str(text),
        }
    }

    fn lines(&mut self, text: &str) {
        for (n, line) in text.split('\n').enumerate() {
            if n > 0 {
                self.line();
            }
            self.push(line);
        }
    }

    /// Starts or ends bold text. Nested bold is ignored, because mrkdwn has one asterisk for both ends.
    fn bold(&mut self, begins: bool) {
        if !begins {
            self.bold -= 1;
        }
        if self.bold == 0 && self.table.is_none() {
            self.push("*");
        }
        if begins {
            self.bold += 1;
        }
    }

    fn prefix(&self) -> String {
        "> ".repeat(self.quotes.min(1))
    }

    fn line(&mut self) {
        if self.table.is_some() {
            return self.push(" ");
        }
        self.out.push('\n');
        self.out.push_str(&self.prefix());
        if !self.in_code {
            self.out.push_str(&"    ".repeat(self.lists.len().saturating_sub(1)));
        }
    }

    /// Starts a new block: after an empty line, or at the start of an item or a quote.
    fn block(&mut self) {
        let begun = self.out.is_empty() || self.out.ends_with("> ") || self.out.ends_with(&format!("{BULLET} "));
        let numbered = self.out.rsplit('\n').next().is_some_and(|line| {
            !self.lists.is_empty() && line.trim().trim_end_matches('.').parse::<u64>().is_ok() && line.ends_with(". ")
        });
        if begun || numbered {
            return;
        }
        self.line();
        if self.lists.is_empty() {
            self.line();
        }
    }

    fn item(&mut self) {
        let begun = self.out.is_empty() || self.out.ends_with("\n\n") || self.out.ends_with("> ");
        if !begun {
            self.line();
        }
        let mark = match self.lists.last_mut().and_then(|list| list.next.as_mut()) {
            Some(next) => {
                *next += 1;
                format!("{}. ", *next - 1)
            }
            None => format!("{BULLET} "),
        };
        self.push(&mark);
    }

    fn link(&mut self) {
        let Some((start, url)) = self.links.pop() else { return };
        if self.table.is_some() || start > self.out.len() {
            return;
        }
        let text = self.out.split_off(start);
        // Only addresses that a reader can open become links; a pipe would end the address.
        let followable = ["http://", "https://", "mailto:"].iter().any(|scheme| url.starts_with(scheme));
        let url = escape(&url).replace('|', "%7C");
        match (followable, text.trim().is_empty()) {
            (false, _) => self.out.push_str(&text),
            (true, true) => self.out.push_str(&format!("<{url}>")),
            (true, false) => self.out.push_str(&format!("<{url}|{}>", text.replace('|', "¦").replace('\n', " "))),
        }
    }

    fn table_ends(&mut self) {
        let Some(table) = self.table.take() else { return };
        self.block();
        self.out.push_str("```\n");
        self.out.push_str(&table.text());
        self.out.push_str("```");
    }
}

impl Table {
    /// Formats rows in columns of equal width, with a line under the header.
    fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let seen = |cell: &str| cell.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">").chars().count();
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| seen(cell)).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for (n, row) in self.rows.iter().enumerate() {
            let cells = widths.iter().enumerate().map(|(column, width)| {
                let cell = row.get(column).map_or("", String::as_str);
                let pad = " ".repeat(width - seen(cell).min(*width));
                match self.alignments.get(column) {
                    Some(Alignment::Right) => format!("{pad}{cell}"),
                    _ => format!("{cell}{pad}"),
                }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
            if n == 0 {
                let lines: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                text.push_str(&lines.join("  "));
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_models_write() {
        for (markdown, expected) in [
            ("plain", "plain"),
            ("**bold** and __bold__", "*bold* and *bold*"),
            ("*it* and _it_", "_it_ and _it_"),
            ("***both***", "_*both*_"),
            ("~~gone~~", "~gone~"),
            ("`a < b`", "`a &lt; b`"),
            ("a & b < c > d", "a &amp; b &lt; c &gt; d"),
            ("# Title\ntext", "*Title*\n\ntext"),
            ("# **Title**", "*Title*"),
            ("one\ntwo\n\nthree", "one\ntwo\n\nthree"),
            ("- a\n- b\n  - c\n- d", "• a\n• b\n    • c\n• d"),
            ("text\n\n1. a\n2. b", "text\n\n1. a\n2. b"),
            ("3. c\n4. d", "3. c\n4. d"),
            ("- [ ] a\n- [x] b", "• ☐ a\n• ☑ b"),
            ("> quoted\n> more", "> quoted\n> more"),
            ("a\n\n---\n\nb", "a\n\n──────────\n\nb"),
            ("[site](https://example.com/?a=1&b=2)", "<https://example.com/?a=1&amp;b=2|site>"),
            ("<https://example.com>", "<https://example.com|https://example.com>"),
            ("![chart](https://example.com/c.png)", "<https://example.com/c.png|chart>"),
            ("[run](javascript:alert(1))", "run"),
            ("```rust\nlet a = b && c;\n```", "```\nlet a = b &amp;&amp; c;\n```"),
            ("```\nunfinished", "```\nunfinished\n```"),
            ("| a | b |\n|---|--:|\n| x | 10 |\n| yy | 2 |", "```\na    b\n──  ──\nx   10\nyy   2\n```"),
            ("1 \\* 2", "1 * 2"),
        ] {
            assert_eq!(to_mrkdwn(markdown), expected, "{markdown}");
        }
    }

    #[test]
    fn nobody_is_mentioned_by_an_answer() {
        for text in ["<!channel> hi", "<!here>", "<@U123>", "`<!everyone>`", "a <#C1> b"] {
            let out = to_mrkdwn(text);
            assert!(!out.contains("<!") && !out.contains("<@") && !out.contains("<#"), "{out}");
        }
    }

    proptest! {
        #[test]
        fn anything_converts_and_nothing_of_slacks_gets_through(text in "[ -~\n*_`#>|äß-]{0,200}") {
            let out = to_mrkdwn(&text);
            for at in out.match_indices('<').map(|(at, _)| at) {
                let rest = &out[at + 1..];
                prop_assert!(["http://", "https://", "mailto:"].iter().any(|s| rest.starts_with(s)), "{out}");
            }
        }
    }
}
