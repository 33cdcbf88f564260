//! Properties: reading any bytes ends with a spec or with problems that point into the file.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use agentry_config::{load_fleet, validate_text};
use proptest::prelude::*;

fn pieces() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "name: a\n",
        "execution_mode: ",
        "autonomous\n",
        "llm_config:\n",
        "  provider: openai\n",
        "  model: m\n",
        "system_prompt: |\n",
        "  x\n",
        "tools:\n",
        "  - name: t\n",
        "    type: mcp\n",
        "&a ",
        "*a",
        "<<: *a\n",
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "\t",
        "\n",
        "? ",
        "---\n",
        "...\n",
        "!!str ",
        "'",
        "\"",
        "${A}",
        "${",
        "ä€",
        "\u{feff}",
        "%TAG ! x\n",
        "#",
        "0x",
        "schedule_config: {cron: '* * * * *'}\n",
        "budget: {per_task_usd: 1}\n",
        "-1e999",
        ".nan",
        "null",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

fn check(text: &str) {
    for problem in validate_text("f.yml", text) {
        let shown = problem.to_string();
        assert!(shown.starts_with(problem.severity.as_str()) && !problem.message.is_empty());
        let lines = u32::try_from(text.lines().count()).unwrap();
        assert!(problem.line <= lines.max(1) + 1, "{shown}\nof\n{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_of_yaml_pieces_panics(text in pieces()) {
        check(&text);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn a_good_file_with_one_change_never_panics(at in 0_usize..2_000, insert in any::<char>(), cut in 0_usize..40) {
        let mut text = include_str!("good/full.yml").to_owned();
        let from = text.floor_char_boundary(at.min(text.len()));
        let to = text.floor_char_boundary((from + cut).min(text.len()));
        text.replace_range(from..to.max(from), &insert.to_string());
        check(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f.yml"), &bytes).unwrap();
        let loaded = load_fleet(dir.path());
        prop_assert_eq!(loaded.fleet.len(), 1);
        prop_assert!(!loaded.problems.is_empty());
    }
}
