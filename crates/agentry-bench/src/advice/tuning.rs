//! `docs/tuning.md`, written from the rules: what the report would advise, for those who read before they measure.

use std::fmt::Write as _;

use super::{BOX_CPU, CAUSES, MACHINE_BOUND_PERCENT, RULES};
use crate::show::with_unit;

/// The guide, as Markdown.
pub fn tuning_guide() -> String {
    let mut text = String::from(
        "# Tuning\n\n<!-- Written by `agentry bench` from its rules; a test compares. -->\n\n\
         `agentry bench run` gives this advice where its figures support it: a rule speaks when a criterion is missed *and* a\n\
         metric shows the cause, and it quotes the number. Without evidence there is no advice. Measure, change one thing,\n\
         measure again, and let `agentry bench compare` say whether it helped.\n\n",
    );
    let _ = writeln!(
        text,
        "Where `{BOX_CPU}` is above {} the machine is the limit, and rules marked ‡ say that instead.\n",
        with_unit(MACHINE_BOUND_PERCENT, "%")
    );
    for rule in RULES {
        let _ = writeln!(text, "## {}{}\n", rule.when, if rule.yields_to_machine { " ‡" } else { "" });
        let _ = writeln!(
            text,
            "Missed: {}.\n",
            rule.criteria.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
        );
        text.push_str("| evidence | hint | what to do |\n|---|---|---|\n");
        for cause in CAUSES.iter().filter(|cause| cause.rule == rule.id) {
            let and = cause.and.map(|(metric, above)| format!(" and `{metric}` > {above}")).unwrap_or_default();
            let limit = with_unit(cause.above, cause.unit);
            let _ = writeln!(text, "| `{}` > {limit}{and} | {} | {} |", cause.metric, cause.hint, cause.action);
        }
        text.push('\n');
    }
    while text.ends_with("\n\n") {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_REFERENCES=1` writes it after an intended change.
    #[test]
    fn the_page_in_the_documentation_is_up_to_date() {
        crate::fixtures::assert_file("docs/tuning.md", &tuning_guide());
    }
}
