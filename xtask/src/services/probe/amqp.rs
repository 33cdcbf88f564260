//! RabbitMQ: the AMQP 0-9-1 greeting, a login, and the virtual host opened and closed again.

use anyhow::{Context, Result, bail};

use super::super::address::Address;
use super::{Answer, Link, bytes};

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

pub fn ask(mut link: impl Link, address: &Address) -> Result<Answer> {
    let user = address.user.as_deref().unwrap_or("guest");
    let password = address.password.as_deref().unwrap_or("guest");
    let host = if address.path.is_empty() { "/" } else { &address.path };

    link.write_all(HEADER)?;
    let greeting = expect(&mut link, START)?;
    send(&mut link, START_OK, &start_ok(user, password))?;
    let tune = expect(&mut link, TUNE).with_context(|| format!("it does not let user {user} in"))?;
    let limits = tune.get(..6).context("a tune method that is too short")?;
    send(&mut link, TUNE_OK, &[limits, &[0, 0]].concat())?;
    send(&mut link, OPEN, &[&short(host)[..], &[0, 0]].concat())?;
    expect(&mut link, OPEN_OK).with_context(|| format!("it does not open the virtual host {host}"))?;
    // Its confirmation does not matter: the connection ends here either way.
    send(&mut link, CLOSE, &[&200_u16.to_be_bytes()[..], &short("checked"), &[0; 4]].concat())?;
    Ok(Answer { version: version(&greeting), unchecked: None })
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

fn send(link: &mut impl Link, method: u16, arguments: &[u8]) -> Result<()> {
    let length = u32::try_from(arguments.len() + 4)?;
    let mut frame = vec![METHOD_FRAME, 0, 0];
    frame.extend(length.to_be_bytes());
    frame.extend(CONNECTION.to_be_bytes());
    frame.extend(method.to_be_bytes());
    frame.extend(arguments);
    frame.push(FRAME_END);
    Ok(link.write_all(&frame)?)
}

/// The arguments of the next method, which must be this one of class `connection`.
fn expect(link: &mut impl Link, wanted: u16) -> Result<Vec<u8>> {
    let head = bytes(link, 7)?;
    if head[0] != METHOD_FRAME {
        bail!("it does not speak AMQP 0-9-1");
    }
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let body = bytes(link, usize::try_from(length)?.saturating_add(1))?;
    let (&end, payload) = body.split_last().context("an empty frame")?;
    if end != FRAME_END || payload.len() < 4 {
        bail!("it does not speak AMQP 0-9-1");
    }
    let (class, method) = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
    let arguments = payload[4..].to_vec();
    match (class, method) {
        (CONNECTION, method) if method == wanted => Ok(arguments),
        (CONNECTION, CLOSE) => bail!("it closed the connection: {}", reason(&arguments)),
        _ => bail!("it sent method {class}.{method} instead of {CONNECTION}.{wanted}"),
    }
}

/// The words of a close method: after the code, a short text.
fn reason(arguments: &[u8]) -> String {
    let length = arguments.get(2).copied().map_or(0, usize::from);
    String::from_utf8_lossy(arguments.get(3..3 + length).unwrap_or_default()).into_owned()
}

/// `version` among the server's properties: the key as a short text, type `S`, a long text.
fn version(greeting: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\x07versionS";
    let at = greeting.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = u32::from_be_bytes(greeting.get(at..at + 4)?.try_into().ok()?);
    let text = greeting.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    fn frame(method: u16, arguments: &[u8]) -> Vec<u8> {
        let mut server = Recorded::new(b"");
        send(&mut server, method, arguments).unwrap();
        server.sent
    }

    fn greeting() -> Vec<u8> {
        frame(START, b"\x00\x09\x00\x00\x00\x17\x07versionS\x00\x00\x00\x06\x33.10.8\x07productS\x00\x00\x00\x00")
    }

    fn ask_of(answers: &[Vec<u8>], url: &str) -> (Result<Answer>, Vec<u8>) {
        let mut server = Recorded::new(&answers.concat());
        let answer = ask(&mut server, &Address::parse(url, 5672).unwrap());
        (answer, server.sent)
    }

    #[test]
    fn it_is_asked_in_its_protocol() {
        let tune = frame(TUNE, &[7, 255, 0, 2, 0, 0, 0, 60]);
        let (answer, sent) = ask_of(&[greeting(), tune, frame(OPEN_OK, &[0])], "amqp://u:p@h/%2f");
        assert_eq!(answer.unwrap(), Answer { version: Some("3.10.8".to_owned()), unchecked: None });
        assert!(sent.starts_with(HEADER));
        assert!(sent.windows(4).any(|window| window == b"\0u\0p"));
    }

    #[test]
    fn a_wrong_login_or_virtual_host_is_said() {
        let closed = frame(CLOSE, &[&403_u16.to_be_bytes()[..], &short("ACCESS_REFUSED"), &[0; 4]].concat());
        let (answer, _) = ask_of(&[greeting(), closed], "amqp://nobody:x@h");
        let error = format!("{:#}", answer.unwrap_err());
        assert!(error.contains("user nobody") && error.contains("ACCESS_REFUSED"), "{error}");
        let (answer, _) = ask_of(&[greeting()], "amqp://h");
        assert!(format!("{:#}", answer.unwrap_err()).contains("user guest"));
    }

    #[test]
    fn something_else_on_the_port_is_refused() {
        for other in
            [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"AMQP\x00\x00\x09\x01", b"", &[1, 0, 0, 255, 255, 255, 255]]
        {
            assert!(ask_of(&[other.to_vec()], "amqp://h").0.is_err());
        }
    }
}
