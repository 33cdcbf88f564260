//! Credentials from the environment, read at the time of a call, so that no spec holds a secret.

use std::sync::Arc;

use secrecy::SecretString;

/// Source of variables: the process environment, or a test's own.
pub type Lookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

pub(crate) fn process() -> Lookup {
    Arc::new(|name| std::env::var(name).ok())
}

/// A text whose variables cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VariableError {
    #[error("one of its texts has a `${{` without `}}`")]
    Unclosed,
    #[error("the environment variable {0} is not set; set it where Agentry runs")]
    Unset(String),
}

/// Replaces every `${VAR}` and `${VAR:-default}` of `text`; `$${` is a literal `${`, as everywhere in agent files.
///
/// # Errors
/// A variable that is not set, or a `${` that is not closed. The message contains no value.
pub(crate) fn resolve(text: &str, lookup: &Lookup) -> Result<SecretString, VariableError> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if let Some(before) = rest[..start].strip_suffix('$') {
            resolved.push_str(before);
            resolved.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        resolved.push_str(&rest[..start]);
        let name = &rest[start + 2..];
        let end = name.find('}').ok_or(VariableError::Unclosed)?;
        let (name, default) = name[..end].split_once(":-").map_or((&name[..end], None), |(name, d)| (name, Some(d)));
        match (lookup(name), default) {
            (Some(value), _) if !value.is_empty() => resolved.push_str(&value),
            (_, Some(default)) => resolved.push_str(default),
            _ => return Err(VariableError::Unset(name.to_owned())),
        }
        rest = &rest[start + 2 + end + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved.into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn variables_are_replaced_and_missing_ones_named() {
        let lookup: Lookup = Arc::new(|name| (name == "A").then(|| "one".to_owned()));
        let text = |text: &str| resolve(text, &lookup).map(|secret| secret.expose_secret().to_owned());
        assert_eq!(text("x-${A}-${A}"), Ok("x-one-one".to_owned()));
        assert_eq!(text("plain $A"), Ok("plain $A".to_owned()));
        assert_eq!(text("${B:-two}-$${A}-${A:-x}"), Ok("two-${A}-one".to_owned()));
        assert!(text("${A}${B}").unwrap_err().to_string().contains("variable B is not set"));
        assert!(text("${A").is_err());
    }
}
