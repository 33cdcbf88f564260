//! Base URLs of calls.

use agentry_core::agent::LlmTarget;

/// The possible addresses of a provider. The first that is set wins: the simulator's, the target's own, the settings',
/// the provider's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bases {
    /// Root URL of a simulator, which receives all calls, without keys.
    pub override_root: Option<String>,
    /// Prefix of the protocol's paths at the simulator.
    pub override_prefix: &'static str,
    pub configured: Option<String>,
    /// Suffix that people write in addresses although the protocol's paths already have it.
    pub redundant: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    Override(String),
    Chosen(String),
    Own,
}

impl Bases {
    pub fn of(&self, target: &LlmTarget) -> Base {
        if let Some(root) = &self.override_root {
            return Base::Override(format!("{}{}", root_of(root), self.override_prefix));
        }
        match target.base_url.as_deref().or(self.configured.as_deref()) {
            None => Base::Own,
            Some(chosen) => {
                let chosen = chosen.trim_end_matches('/');
                let chosen = if self.redundant.is_empty() { chosen } else { without(chosen, self.redundant) };
                Base::Chosen(chosen.to_owned())
            }
        }
    }
}

impl Base {
    /// Returns the address; `own` is the provider's.
    pub fn or_own(self, own: &str) -> String {
        match self {
            Self::Override(url) | Self::Chosen(url) => url,
            Self::Own => own.to_owned(),
        }
    }
}

/// Returns the root of a simulator or a compatible server, without OpenAI's `/v1`.
fn root_of(url: &str) -> &str {
    without(url.trim_end_matches('/'), "/v1")
}

fn without<'a>(url: &'a str, end: &str) -> &'a str {
    url.strip_suffix(end).unwrap_or(url).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::ProviderKind;

    use super::*;

    #[test]
    fn the_simulator_wins_over_the_file_over_the_settings() {
        let target = |base_url: Option<&str>| LlmTarget {
            provider: ProviderKind::Anthropic,
            model: "m".into(),
            base_url: base_url.map(Into::into),
            region: None,
        };
        let mut bases = Bases { redundant: "/v1", ..Bases::default() };
        assert_eq!(bases.of(&target(None)), Base::Own);
        bases.configured = Some("https://proxy/".into());
        assert_eq!(bases.of(&target(None)), Base::Chosen("https://proxy".into()));
        assert_eq!(bases.of(&target(Some("https://own/v1/"))), Base::Chosen("https://own".into()));
        for root in ["http://sim:1", "http://sim:1/", "http://sim:1/v1"] {
            bases.override_root = Some(root.into());
            assert_eq!(bases.of(&target(Some("https://own"))), Base::Override("http://sim:1".into()), "{root}");
        }
    }
}
