//! Bot tokens of the workspaces with the app.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// One token per workspace, or one for all.
#[derive(Clone, Default)]
pub struct BotTokens(Vec<(Option<String>, SecretString)>);

impl fmt::Debug for BotTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let teams: Vec<&str> = self.0.iter().map(|(team, _)| team.as_deref().unwrap_or("any")).collect();
        f.debug_tuple("BotTokens").field(&teams).finish()
    }
}

impl BotTokens {
    /// Creates tokens by workspace; `None` is the default for all others.
    #[must_use]
    pub fn new(tokens: Vec<(Option<String>, SecretString)>) -> Self {
        Self(tokens)
    }

    /// Returns true when there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the token of a workspace.
    #[must_use]
    pub fn of(&self, team: &str) -> Option<&str> {
        let own = self.0.iter().find(|(of, _)| of.as_deref() == Some(team));
        own.or_else(|| self.0.iter().find(|(of, _)| of.is_none())).map(|(_, token)| token.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_has_its_own_token_or_the_one_for_all() {
        let tokens = BotTokens::new(vec![(None, "xoxb-all".into()), (Some("T2".to_owned()), "xoxb-2".into())]);
        assert_eq!((tokens.of("T1"), tokens.of("T2")), (Some("xoxb-all"), Some("xoxb-2")));
        let one = BotTokens::new(vec![(Some("T2".to_owned()), "xoxb-2".into())]);
        assert_eq!(one.of("T1"), None);
        assert!(!format!("{tokens:?}").contains("xoxb"));
    }
}
