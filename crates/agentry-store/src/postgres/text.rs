//! Escapes for `text` columns, which hold every character but NUL: session keys, event ids, step names and reasons come
//! from outside.
//!
//! NUL is written as U+0001 `0`, and U+0001 itself as U+0001 `1`; all other text stays as it is. JSON bodies need no
//! escapes: serde writes NUL as six plain characters, and the server never parses them.

use std::borrow::Cow;

/// Start of an escape.
const MARK: char = '\u{1}';

/// Returns the form for a `text` column; the mapping is injective.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte <= 1) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        match character {
            '\0' => escaped.extend([MARK, '0']),
            MARK => escaped.extend([MARK, '1']),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// Returns the text of a column that was written by [`escape`].
pub(crate) fn unescape(column: &str) -> Cow<'_, str> {
    if !column.contains(MARK) {
        return Cow::Borrowed(column);
    }
    let mut text = String::with_capacity(column.len());
    let mut characters = column.chars();
    while let Some(character) = characters.next() {
        match character {
            MARK if characters.next() == Some('0') => text.push('\0'),
            other => text.push(other),
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_none_holds_nul() {
        let texts =
            ["", "plain", "\0", "\u{1}", "\u{1}0", "\0\u{1}1", "a\0b", "ü\0\0", "back\\slash \\0", "\u{1}\u{1}"];
        let mut forms = std::collections::HashSet::new();
        for text in texts {
            let form = escape(text);
            assert!(!form.contains('\0'), "{text:?}");
            assert_eq!(unescape(&form), text);
            assert!(forms.insert(form.into_owned()), "{text:?} shares its form");
        }
        assert!(matches!(escape("plain"), Cow::Borrowed(_)));
    }
}
