//! Profiles in the files of AWS tools: `~/.aws/credentials` and `~/.aws/config`.

use std::collections::HashMap;
use std::path::Path;

use aws_credential_types::Credentials;

use super::{AwsEnvironment, CredentialsError};

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
const DEFAULT: &str = "default";
/// Credential sources that are not supported.
const FOREIGN: [&str; 4] = ["sso_session", "sso_start_url", "role_arn", "credential_process"];

/// Returns the keys of a profile; `None` when `AWS_PROFILE` is unset and there is no default profile.
pub(super) fn credentials(environment: &AwsEnvironment) -> Result<Option<Credentials>, CredentialsError> {
    let named = environment.text("AWS_PROFILE");
    let name = named.unwrap_or(DEFAULT);
    let keys = keys_of(environment, name)?;
    let key = |key: &str| keys.get(key).filter(|value| !value.is_empty());
    if let (Some(id), Some(secret)) = (key("aws_access_key_id"), key("aws_secret_access_key")) {
        return Ok(Some(super::permanent(id, secret, key("aws_session_token").cloned())));
    }
    if let Some(foreign) = FOREIGN.into_iter().find(|foreign| keys.contains_key(*foreign)) {
        return Err(CredentialsError(format!(
            "AWS profile `{name}` uses `{foreign}`, which is not supported; export its credentials with \
             `aws configure export-credentials --profile {name} --format env`"
        )));
    }
    match named {
        Some(name) => Err(format!("AWS profile `{name}` has no aws_access_key_id and aws_secret_access_key").into()),
        None => Ok(None),
    }
}

pub(super) fn region(environment: &AwsEnvironment) -> Option<String> {
    keys_of(environment, environment.text("AWS_PROFILE").unwrap_or(DEFAULT)).ok()?.remove("region")
}

/// Returns all entries of a profile. Those of the credentials file win.
fn keys_of(environment: &AwsEnvironment, name: &str) -> Result<HashMap<String, String>, CredentialsError> {
    let config = read(environment.file("AWS_CONFIG_FILE", ".aws/config").as_deref())?;
    let credentials = read(environment.file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials").as_deref())?;
    let mut keys = section(&config, &[name, &format!("profile {name}")]);
    keys.extend(section(&credentials, &[name]));
    Ok(keys)
}

/// Reads a file; returns an empty text when it does not exist.
fn read(path: Option<&Path>) -> Result<String, CredentialsError> {
    let Some(path) = path else { return Ok(String::new()) };
    let failed =
        |problem: &dyn std::fmt::Display| CredentialsError(format!("cannot read {}: {problem}", path.display()));
    match std::fs::metadata(path) {
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(problem) => return Err(failed(&problem)),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => return Err(failed(&"it is larger than 1 MiB")),
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map_err(|problem| failed(&problem))
}

/// Returns the entries under these headings. Nested entries, which are indented, are skipped.
fn section(text: &str, names: &[&str]) -> HashMap<String, String> {
    let mut is_within = false;
    let mut keys = HashMap::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(heading) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let heading = heading.split_whitespace().collect::<Vec<_>>().join(" ");
            is_within = names.contains(&heading.as_str());
        } else if is_within
            && !trimmed.starts_with(['#', ';'])
            && !line.starts_with([' ', '\t'])
            && let Some((key, value)) = trimmed.split_once('=')
        {
            keys.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[default]\nregion = us-east-1\n\n[profile  team]\nregion=eu-central-1\ns3 =\n  region = no\n\
                          [profile people]\nsso_session = x\n";
    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = AKID1\naws_secret_access_key = a+b/c=\n[team]\n\
                               aws_access_key_id=AKID2\naws_secret_access_key=s2\naws_session_token=t2\n";

    #[test]
    fn profiles_are_read_from_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("config"), CONFIG).unwrap();
        std::fs::write(path("credentials"), CREDENTIALS).unwrap();
        let of = |profile: Option<&str>| {
            let (config, credentials) = (path("config"), path("credentials"));
            let mut variables =
                vec![("AWS_CONFIG_FILE", config.as_str()), ("AWS_SHARED_CREDENTIALS_FILE", credentials.as_str())];
            variables.extend(profile.map(|profile| ("AWS_PROFILE", profile)));
            AwsEnvironment::of(&variables)
        };
        let found = credentials(&of(None)).unwrap().unwrap();
        assert_eq!((found.access_key_id(), found.secret_access_key()), ("AKID1", "a+b/c="));
        let team = of(Some("team"));
        assert_eq!(credentials(&team).unwrap().unwrap().session_token(), Some("t2"));
        assert_eq!(region(&team).as_deref(), Some("eu-central-1"));
        let problem = credentials(&of(Some("people"))).unwrap_err().to_string();
        assert!(problem.contains("sso_session") && problem.contains("export-credentials"), "{problem}");
        assert!(credentials(&of(Some("nobody"))).unwrap_err().to_string().contains("`nobody`"));
        assert!(credentials(&AwsEnvironment::default()).unwrap().is_none());
    }
}
