//! Credentials of the container or the instance, from AWS's metadata services.

use std::time::{Duration, SystemTime};

use agentry_http::{Clients, is_local, read_bounded, with_causes};
use aws_credential_types::Credentials;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;

use super::{AwsEnvironment, CredentialsError};

/// Timeout of one request: the service is on the same host or absent.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Largest response that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const CONTAINER_HOST: &str = "http://169.254.170.2";
const INSTANCE_HOST: &str = "http://169.254.169.254";
/// Lifetime of a metadata token in seconds; it is used at once.
const TOKEN_SECONDS: &str = "60";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CredentialsResponse {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<jiff::Timestamp>,
}

impl From<CredentialsResponse> for Credentials {
    fn from(response: CredentialsResponse) -> Self {
        let CredentialsResponse { access_key_id, secret_access_key, token, expiration } = response;
        Self::new(access_key_id, secret_access_key, token, expiration.map(SystemTime::from), "metadata")
    }
}

/// Returns the credentials of the container (ECS, EKS pod identity); `None` outside of one.
pub(super) async fn of_container(
    environment: &AwsEnvironment,
    clients: &Clients,
) -> Result<Option<Credentials>, CredentialsError> {
    let relative = environment.text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let full = environment.text("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let url = match (relative, full) {
        (Some(path), _) => format!("{CONTAINER_HOST}{path}"),
        (None, Some(url)) => url.to_owned(),
        (None, None) => return Ok(None),
    };
    // The token must not be sent unencrypted.
    if !url.starts_with("https://") && !is_local(&url) {
        return Err("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor on this machine".into());
    }
    let mut request = clients.client(&url)?.request(Method::GET, &url);
    if let Some(token) = container_token(environment)? {
        request = request.header(AUTHORIZATION, token);
    }
    let answer = answer(request).await.map_err(|problem| format!("the container's credentials: {problem}"))?;
    parse(&answer).map(Some)
}

fn container_token(environment: &AwsEnvironment) -> Result<Option<String>, CredentialsError> {
    match environment.text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text =
                text.map_err(|problem| format!("cannot read AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: {problem}"))?;
            Ok(Some(text.trim().to_owned()))
        }
        None => Ok(environment.text("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned)),
    }
}

/// Returns the credentials of the instance's role, from version 2 of its metadata service.
pub(super) async fn of_instance(
    environment: &AwsEnvironment,
    clients: &Clients,
) -> Result<Credentials, CredentialsError> {
    if environment.text("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err("AWS_EC2_METADATA_DISABLED is set".into());
    }
    let host = environment.text("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(INSTANCE_HOST).trim_end_matches('/');
    let client = clients.client(host)?;
    let token = client
        .request(Method::PUT, format!("{host}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
    let token = answer(token).await?;
    let get = |path: &str| {
        answer(client.get(format!("{host}{ROLES}{path}")).header("x-aws-ec2-metadata-token", token.trim()))
    };
    let roles = get("").await?;
    let role = roles.lines().next().unwrap_or_default().trim();
    if role.is_empty() {
        return Err("the instance has no role".into());
    }
    parse(&get(role).await?)
}

async fn answer(request: RequestBuilder) -> Result<String, CredentialsError> {
    let failed = |error: reqwest::Error| CredentialsError(with_causes(&error.without_url()));
    let response = request.timeout(TIMEOUT).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(format!("HTTP {}", response.status().as_u16()).into());
    }
    let (body, has_more) = read_bounded(response, MAX_ANSWER_BYTES).await.map_err(failed)?;
    if has_more {
        return Err(format!("an answer of more than {MAX_ANSWER_BYTES} bytes").into());
    }
    String::from_utf8(body).map_err(|_| "an answer that is not text".into())
}

/// Parses credentials. The error does not contain them.
fn parse(answer: &str) -> Result<Credentials, CredentialsError> {
    let response: Result<CredentialsResponse, _> = serde_json::from_str(answer);
    response.map(Into::into).map_err(|problem| {
        let (line, column) = (problem.line(), problem.column());
        format!("the metadata service returned no credentials ({line}:{column})").into()
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const KEYS: &str = r#"{"Code":"Success","AccessKeyId":"ASIAX","SecretAccessKey":"s","Token":"t","Expiration":"2033-01-01T00:00:00Z"}"#;

    /// Serves one response after another, each to a request that contains all of its words.
    async fn service(
        steps: &'static [(&'static [&'static str], &'static str)],
    ) -> (String, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            for (words, body) in steps {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request_text = vec![0; 4096];
                let read = stream.read(&mut request_text).await.unwrap();
                let request_text = String::from_utf8_lossy(&request_text[..read]).into_owned();
                assert!(words.iter().all(|word| request_text.contains(word)), "{words:?} in {request_text}");
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all((head + body).as_bytes()).await.unwrap();
            }
        });
        (url, served)
    }

    #[tokio::test]
    async fn an_instance_is_asked_with_a_token() {
        let (url, served) = service(&[
            (&["PUT /latest/api/token", "x-aws-ec2-metadata-token-ttl-seconds: 60"], "tok"),
            (&["GET /latest/meta-data/iam/security-credentials/ ", "x-aws-ec2-metadata-token: tok"], "worker\n"),
            (&["GET /latest/meta-data/iam/security-credentials/worker ", "x-aws-ec2-metadata-token: tok"], KEYS),
        ])
        .await;
        let environment = AwsEnvironment::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
        let found = of_instance(&environment, &Clients::new(1)).await.unwrap();
        served.await.unwrap();
        assert_eq!((found.access_key_id(), found.session_token()), ("ASIAX", Some("t")));
        assert!(found.expiry().is_some());
    }

    #[tokio::test]
    async fn a_container_is_asked_with_its_token_and_never_in_the_open() {
        let (url, served) = service(&[(&["GET /creds", "authorization: Basic x"], KEYS)]).await;
        let url = format!("{url}/creds");
        let of = |url: &str| {
            AwsEnvironment::of(&[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic x"),
            ])
        };
        let found = of_container(&of(&url), &Clients::new(1)).await.unwrap().unwrap();
        served.await.unwrap();
        assert_eq!(found.access_key_id(), "ASIAX");
        let open = of_container(&of("http://example.com/creds"), &Clients::new(1)).await;
        assert!(open.unwrap_err().to_string().contains("neither https"));
    }

    #[test]
    fn credentials_are_not_in_the_error() {
        let problem = parse(r#"{"SecretAccessKey":"hush"}"#).unwrap_err().to_string();
        assert!(!problem.contains("hush"), "{problem}");
    }
}
