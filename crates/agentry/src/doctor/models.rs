//! The models of the fleet that have retired or will soon.

use std::collections::BTreeMap;

use agentry_config::{Settings, Tables, load_fleet};
use agentry_core::agent::ProviderKind;
use agentry_core::time::Timestamp;

use super::{CheckState, DoctorCheck, check};

/// Returns one check for each model that retires within 90 days, or one that says that there is none.
pub fn checks(settings: &Settings, tables: &Tables, now: Timestamp) -> Vec<DoctorCheck> {
    let mut users: BTreeMap<(ProviderKind, String), Vec<String>> = BTreeMap::new();
    for (name, entry) in load_fleet(&settings.agents).fleet.iter() {
        let Some(spec) = &entry.spec else { continue };
        for target in std::iter::once(&spec.llm.target).chain(&spec.llm.fallback) {
            let agents = users.entry((target.provider, target.model.to_string())).or_default();
            if agents.last().is_none_or(|last| *last != name.to_string()) {
                agents.push(name.to_string());
            }
        }
    }
    let retiring = users.iter().filter_map(|((provider, model), agents)| {
        let notice = tables.models.of(*provider, model).retirement_notice(model, now)?;
        let advice = format!("change {}", agents.join(", "));
        Some(check("models", CheckState::Look, notice, Some(&advice)))
    });
    let mut found: Vec<DoctorCheck> = retiring.collect();
    if found.is_empty() {
        found.push(check("models", CheckState::Good, "none of the fleet retires within 90 days", None));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentry_config::Sources;

    #[test]
    fn a_retiring_model_is_named_with_its_agents() {
        let folder = tempfile::tempdir().unwrap();
        let file = |model: &str| {
            format!(
                "name: a\nexecution_mode: autonomous\nllm_config: {{provider: openai, model: {model}}}\n\
                 system_prompt: x\n"
            )
        };
        let flags = vec![("agents".to_owned(), folder.path().display().to_string())];
        let settings = Settings::load(&Sources { flags, environment: Vec::new() }).unwrap();
        let now = Timestamp(1_796_083_200_000_000);
        let checks_of = |model: &str| {
            std::fs::write(folder.path().join("a.yml"), file(model)).unwrap();
            checks(&settings, Tables::shipped(), now)
        };
        let found = checks_of("gpt-5-mini");
        assert!(found[0].found.contains("retires on 2026-12-11"), "{}", found[0].found);
        assert_eq!((found.len(), found[0].advice.as_deref()), (1, Some("change a")));
        assert!(checks_of("gpt-6-luna")[0].state == CheckState::Good);
    }
}
