//! The API's document, from the handlers' own annotations.

use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey as SchemeApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::api::{
    agents, backfill, batch, bench, clarifications, dead_letters, deployment, events, health, heap, keys, log, me,
    overview, page, profile, schedules, scrape, sessions, tasks, usage, validate, workers,
};
use crate::problem::{Code, FieldError, ProblemBody};
use crate::slack;
use crate::ui;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Agentry",
        description = "A fleet of LLM agents: tasks, sessions, schedules, events. Errors are RFC 9457 problem details with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        tasks::create, tasks::list, tasks::get, tasks::events, tasks::cancel, batch::create,
        agents::list, agents::get, deployment::remove, deployment::activate, validate::validate,
        sessions::list, sessions::get, sessions::delete,
        schedules::list, schedules::get, schedules::create, schedules::change, schedules::delete, schedules::trigger,
        backfill::backfill, clarifications::list, clarifications::answer,
        dead_letters::list, dead_letters::get, dead_letters::edit, dead_letters::delete, dead_letters::replay,
        events::publish, events::tail, usage::get, usage::calls, workers::list,
        slack::events::events, slack::commands::commands, slack::interactive::interactive,
        health::live, health::ready, scrape::metrics, profile::profile, heap::heap, page::document,
        log::get, log::put,
        me::get, me::sign_in, me::sign_out,
        keys::list, keys::create, keys::revoke, keys::rotate, keys::audit, bench::list, bench::get,
        overview::get, overview::events, ui::index, ui::file,
    ),
    components(schemas(ProblemBody, Code, FieldError)),
    modifiers(&Security),
    security(("key" = []), ("session" = []), ())
)]
struct Document;

/// The security schemes of the document. Neither is needed while no key exists and none is required.
struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("agk_…");
        let key = key.description(Some("An API key; `agentry keys create` makes one"));
        components.add_security_scheme("key", SecurityScheme::Http(key.build()));
        let words = "A session that POST /v1/sign-in opened; writes also carry `X-CSRF-Token`";
        let cookie = ApiKeyValue::with_description("agentry_session", words);
        components.add_security_scheme("session", SecurityScheme::ApiKey(SchemeApiKey::Cookie(cookie)));
    }
}

/// The OpenAPI 3.1 document, as indented JSON with a line break at its end.
#[must_use]
pub fn openapi() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(&openapi()).unwrap();
        let mut documented = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                documented.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let routed: BTreeSet<String> = crate::routes::table()
            .iter()
            .flat_map(|route| route.methods.iter().map(|(method, _)| format!("{method} {}", route.path)))
            .collect();
        assert_eq!(documented, routed);
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    }

    #[test]
    fn the_document_that_is_checked_in_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let current = openapi();
        if std::env::var_os("UPDATE_REFERENCES").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &current).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == current, "docs/openapi.json is stale: run with UPDATE_REFERENCES=1 and look at the difference");
    }
}
