//! Problems in files: one type for every mistake, with its location, cause and remedy, shown the same way everywhere.

use std::fmt;
use std::sync::Arc;

/// Maximum length of a source line in a message; a longer one is cut around the mistake.
const MAX_SHOWN_LINE: usize = 160;
/// Maximum length of the underline.
const MAX_UNDERLINE: usize = 80;

/// Minimum length of a prefix that identifies a word.
const MIN_PREFIX: usize = 4;

/// The severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but needs attention.
    Warning,
}

impl Severity {
    /// Returns the name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Severity.
    pub severity: Severity,
    /// The file, as shown to people.
    pub file: Arc<str>,
    /// Line, from 1; 0 if the problem has no location in the text.
    pub line: u32,
    /// Column in characters, from 1; 0 if the problem has no location in the text.
    pub column: u32,
    /// Number of characters to underline.
    pub width: u32,
    /// The mistake, in one line.
    pub message: String,
    /// The expectation, shown beside the underline.
    pub label: String,
    /// The remedy.
    pub help: Option<String>,
    /// Source line.
    pub source_line: Box<str>,
}

/// A location in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length in characters.
    pub width: u32,
}

impl Problem {
    /// Returns an error about a whole file, without a location in it.
    #[must_use]
    pub fn of_file(file: impl Into<Arc<str>>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            width: 0,
            message: message.into(),
            label: String::new(),
            help: None,
            source_line: Box::default(),
        }
    }

    /// Returns an error at a location in a text.
    #[must_use]
    pub fn at(file: impl Into<Arc<str>>, text: &str, place: Position, message: impl Into<String>) -> Self {
        let row = usize::try_from(place.line).unwrap_or(0).saturating_sub(1);
        Self {
            line: place.line,
            column: place.column,
            width: place.width,
            source_line: text.lines().nth(row).unwrap_or_default().into(),
            ..Self::of_file(file, message)
        }
    }

    /// Sets the expectation.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Sets the remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Makes the problem a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Returns whether the file cannot be used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Returns the problem in one line, for tables: `agents/refunds.yml:7:3 unknown key …, did you mean …`.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut line = if self.line == 0 {
            format!("{}: {}", self.file, self.message)
        } else {
            format!("{}:{}:{} {}", self.file, self.line, self.column, self.message)
        };
        if let Some(help) = &self.help {
            line.push_str(", ");
            line.push_str(help);
        } else if !self.label.is_empty() {
            line.push_str(": ");
            line.push_str(&self.label);
        }
        line
    }

    fn snippet(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let (shown, before, width) = self.window();
        writeln!(f, "\n{gutter} |")?;
        writeln!(f, "{number} | {shown}")?;
        write!(f, "{gutter} | {}{}", " ".repeat(before), "^".repeat(width))?;
        if !self.label.is_empty() {
            write!(f, " {}", self.label)?;
        }
        Ok(())
    }

    /// Returns the visible part of the source line, the number of characters before the underline, and its length.
    fn window(&self) -> (String, usize, usize) {
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let column = usize::try_from(self.column).unwrap_or(1).max(1) - 1;
        let skip = if column > MAX_SHOWN_LINE / 2 { column - MAX_SHOWN_LINE / 4 } else { 0 };
        let mut shown: String = self.source_line.chars().skip(skip).take(MAX_SHOWN_LINE).map(clean).collect();
        shown.truncate(shown.trim_end().len());
        let before = column - skip;
        let room = shown.chars().count().saturating_sub(before).max(1);
        let width = usize::try_from(self.width).unwrap_or(1).clamp(1, MAX_UNDERLINE).min(room);
        (shown, before, width)
    }
}

impl fmt::Display for Problem {
    /// Formats the problem like a compiler's message: several lines without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.severity.as_str();
        let mut gutter = 1;
        if self.line == 0 {
            write!(f, "{severity}: {}: {}", self.file, self.message)?;
            if !self.label.is_empty() {
                write!(f, ": {}", self.label)?;
            }
        } else {
            write!(f, "{severity}: {}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
            self.snippet(f)?;
            gutter = self.line.to_string().len();
        }
        if let Some(help) = &self.help {
            write!(f, "\n{} = help: {help}", " ".repeat(gutter))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Returns the word of `words` that `text` probably means.
#[must_use]
pub fn did_you_mean<'w>(text: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let text = text.to_ascii_lowercase();
    let close = |word: &str| -> Option<usize> {
        let distance = strsim::damerau_levenshtein(&text, &word.to_ascii_lowercase());
        let allowed = (text.chars().count().max(word.chars().count()) / 3).max(1);
        (distance <= allowed).then_some(distance)
    };
    // Long text is no typing mistake, and a comparison takes quadratic time.
    if text.len() > 64 {
        return None;
    }
    let words: Vec<&'w str> = words.into_iter().collect();
    let near = words.iter().filter_map(|word| close(word).map(|distance| (distance, *word))).min_by_key(|(d, _)| *d);
    // `bearer` is far from `bearer_token`, but means nothing else.
    let begins = || words.iter().copied().find(|word| text.len() >= MIN_PREFIX && word.starts_with(&text));
    near.map(|(_, word)| word).or_else(begins)
}

/// Joins words: `a`, `a or b`, `a, b or c`.
#[must_use]
pub fn one_of(words: &[&str]) -> String {
    joined(words, "or")
}

/// Joins words: `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn all_of(words: &[&str]) -> String {
    joined(words, "and")
}

fn joined(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_the_example_in_the_guide() {
        let text = "name: triage\nexecution_mode: autonomos\n";
        let problem = Problem::at(
            "agents/triage.yml",
            text,
            Position { line: 2, column: 17, width: 9 },
            "unknown execution_mode `autonomos`",
        )
        .label("expected autonomous, continuous, collaborative or scheduled")
        .help("did you mean `autonomous`?");
        let expected = "error: agents/triage.yml:2:17: unknown execution_mode `autonomos`
  |
2 | execution_mode: autonomos
  |                 ^^^^^^^^^ expected autonomous, continuous, collaborative or scheduled
  = help: did you mean `autonomous`?";
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn only_near_words_are_meant() {
        assert_eq!(did_you_mean("modle", ["model", "provider"]), Some("model"));
        assert_eq!(did_you_mean("Model", ["model", "provider"]), Some("model"));
        assert_eq!(did_you_mean("colour", ["model", "provider"]), None);
    }

    #[test]
    fn a_long_line_is_cut_around_the_mistake() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let problem = Problem::at("f", &text, Position { line: 1, column: 501, width: 900 }, "m").label("here");
        let shown = problem.to_string();
        assert!(shown.lines().all(|line| line.chars().count() < 260), "{shown}");
        assert!(shown.contains("aXb"), "{shown}");
    }
}
