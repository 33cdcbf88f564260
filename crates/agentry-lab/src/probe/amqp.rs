//! RabbitMQ: the AMQP 0-9-1 greeting, a login, and the virtual host opened and closed again.

use tokio::io::AsyncWriteExt;

use super::{Connection, Refusal, bytes, refuse};
use crate::Address;

const HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
const METHOD_FRAME: u8 = 1;
const FRAME_END: u8 = 0xCE;
/// The class `connection`, and those of its methods that are met here.
const CONNECTION: u16 = 10;
const START: u16 = 10;
const START_OK: u16 = 11;
const TUNE: u16 = 30;
const TUNE_OK: u16 = 31;
const OPEN: u16 = 40;
const OPEN_OK: u16 = 41;
const CLOSE: u16 = 50;

pub(super) async fn version(mut stream: impl Connection, address: &Address) -> Result<Option<String>, Refusal> {
    let user = address.user.as_deref().unwrap_or("guest");
    let password = address.password.as_deref().unwrap_or("guest");
    let host = if address.path.is_empty() { "/" } else { &address.path };
    let because = |what: String| move |Refusal(why)| Refusal(format!("{what}: {why}"));

    stream.write_all(HEADER).await?;
    let greeting = expect(&mut stream, START).await?;
    send(&mut stream, START_OK, &start_ok(user, password)).await?;
    let tune = expect(&mut stream, TUNE).await.map_err(because(format!("it does not let user {user} in")))?;
    let Some(limits) = tune.get(..6) else { return refuse("it sent a tune method that is too short") };
    send(&mut stream, TUNE_OK, &[limits, &[0, 0]].concat()).await?;
    send(&mut stream, OPEN, &[&short(host)[..], &[0, 0]].concat()).await?;
    expect(&mut stream, OPEN_OK).await.map_err(because(format!("it does not open the virtual host {host}")))?;
    // Its confirmation does not matter: the connection ends here either way.
    send(&mut stream, CLOSE, &[&200_u16.to_be_bytes()[..], &short("checked"), &[0; 4]].concat()).await?;
    Ok(version_in(&greeting))
}

/// No client properties, the mechanism PLAIN, and the only locale there is.
fn start_ok(user: &str, password: &str) -> Vec<u8> {
    let login = format!("\0{user}\0{password}");
    let length = u32::try_from(login.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0; 4], &short("PLAIN")[..], &length, login.as_bytes(), &short("en_US")].concat()
}

/// A text of at most 255 bytes with its length.
fn short(text: &str) -> Vec<u8> {
    let kept = &text.as_bytes()[..text.len().min(255)];
    [&[u8::try_from(kept.len()).unwrap_or_default()], kept].concat()
}

async fn send(stream: &mut impl Connection, method: u16, arguments: &[u8]) -> Result<(), Refusal> {
    Ok(stream.write_all(&frame(method, arguments)).await?)
}

fn frame(method: u16, arguments: &[u8]) -> Vec<u8> {
    let length = u32::try_from(arguments.len() + 4).unwrap_or(u32::MAX);
    let head = [&[METHOD_FRAME, 0, 0], &length.to_be_bytes()[..], &CONNECTION.to_be_bytes(), &method.to_be_bytes()];
    [&head.concat()[..], arguments, &[FRAME_END]].concat()
}

/// The arguments of the next method, which must be this one of class `connection`.
async fn expect(stream: &mut impl Connection, expected: u16) -> Result<Vec<u8>, Refusal> {
    let head = bytes(stream, 7).await?;
    if head[0] != METHOD_FRAME {
        return refuse("it does not speak AMQP 0-9-1");
    }
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let body = bytes(stream, usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1)).await?;
    let Some((&end, payload)) = body.split_last() else { return refuse("it sent an empty frame") };
    if end != FRAME_END || payload.len() < 4 {
        return refuse("it does not speak AMQP 0-9-1");
    }
    let (class, method) = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
    let arguments = payload[4..].to_vec();
    match (class, method) {
        (CONNECTION, method) if method == expected => Ok(arguments),
        (CONNECTION, CLOSE) => refuse(format!("it closed the connection: {}", reason(&arguments))),
        _ => refuse(format!("it sent method {class}.{method} instead of {CONNECTION}.{expected}")),
    }
}

/// The words of a close method: after the code, a short text.
fn reason(arguments: &[u8]) -> String {
    let length = arguments.get(2).copied().map_or(0, usize::from);
    String::from_utf8_lossy(arguments.get(3..3 + length).unwrap_or_default()).into_owned()
}

/// `version` among the server's properties: the key as a short text, type `S`, a long text.
fn version_in(greeting: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\x07versionS";
    let at = greeting.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = u32::from_be_bytes(greeting.get(at..at + 4)?.try_into().ok()?);
    let text = greeting.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{recorded, sent};
    use super::*;

    fn greeting() -> Vec<u8> {
        frame(START, b"\x00\x09\x00\x00\x00\x17\x07versionS\x00\x00\x00\x06\x33.10.8\x07productS\x00\x00\x00\x00")
    }

    async fn ask_of(answers: &[Vec<u8>], url: &str) -> (Result<Option<String>, Refusal>, Vec<u8>) {
        let (client, server) = recorded(&answers.concat()).await;
        (version(client, &Address::parse(url, 5672).unwrap()).await, sent(server).await)
    }

    #[tokio::test]
    async fn it_is_asked_in_its_protocol() {
        let tune = frame(TUNE, &[7, 255, 0, 2, 0, 0, 0, 60]);
        let (answer, sent) = ask_of(&[greeting(), tune, frame(OPEN_OK, &[0])], "amqp://u:p@h/%2f").await;
        assert_eq!(answer.unwrap().as_deref(), Some("3.10.8"));
        assert!(sent.starts_with(HEADER));
        assert!(sent.windows(4).any(|window| window == b"\0u\0p"));
    }

    #[tokio::test]
    async fn a_wrong_login_or_virtual_host_is_said() {
        let closed = frame(CLOSE, &[&403_u16.to_be_bytes()[..], &short("ACCESS_REFUSED"), &[0; 4]].concat());
        let (answer, _) = ask_of(&[greeting(), closed], "amqp://nobody:x@h").await;
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("user nobody") && error.contains("ACCESS_REFUSED"), "{error}");
        let (answer, _) = ask_of(&[greeting()], "amqp://h").await;
        assert!(answer.unwrap_err().to_string().contains("user guest"));
    }

    #[tokio::test]
    async fn something_else_on_the_port_is_refused() {
        for other in
            [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"AMQP\x00\x00\x09\x01", b"", &[1, 0, 0, 255, 255, 255, 255]]
        {
            assert!(ask_of(&[other.to_vec()], "amqp://h").await.0.is_err());
        }
    }
}
