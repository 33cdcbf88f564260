//! A receiver of callbacks: remembers every request, and checks signatures as Standard Webhooks describes them.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Posted {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Posted {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// A server on a free port that answers with `statuses`, in this order, then with 200.
pub struct Listener {
    pub url: String,
    seen: Arc<Mutex<Vec<Posted>>>,
}

impl Listener {
    pub fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Posted>>> = Arc::default();
        let (kept, mut statuses) = (Arc::clone(&seen), VecDeque::from(statuses.to_vec()));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let status = statuses.pop_front().unwrap_or(200);
                if let Some(posted) = take(stream.unwrap(), status) {
                    kept.lock().unwrap().push(posted);
                }
            }
        });
        Self { url, seen }
    }

    pub fn seen(&self) -> Vec<Posted> {
        self.seen.lock().unwrap().clone()
    }
}

/// Reads one request and answers it. The connection is closed: the next request makes a new one.
fn take(mut stream: TcpStream, status: u16) -> Option<Posted> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()?;
    Some(Posted { method, path, headers, body })
}

/// The signature that Standard Webhooks wants: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`. Written out
/// here, so that what the product calls is not its own witness.
pub fn signature(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    format!("v1,{}", base64(&hmac_sha256(key, &content)))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_usize, |group, at| group << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = char::from(DIGITS[group >> (18 - 6 * at) & 63]);
            text.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

/// RFC 2104 for keys of at most one block.
fn hmac_sha256(key: &[u8], content: &[u8]) -> [u8; 32] {
    assert!(key.len() <= 64, "longer keys are hashed first");
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let inner = sha256(&[&pad(0x36), content].concat());
    sha256(&[&pad(0x5c)[..], &inner].concat())
}

/// The first 32 bits of the fractional part of the `root`th root of the first primes (FIPS 180-4 §4.2.2, §5.3.3).
fn constants<const N: usize>(root: u32) -> [u32; N] {
    let primes = (2_u128..).filter(|n| (2..*n).all(|d| n % d != 0));
    let mut constants = [0; N];
    for (constant, prime) in constants.iter_mut().zip(primes) {
        // The largest x with x^root <= prime * 2^(32 root): the root with 32 binary digits behind the point.
        let whole = prime << (32 * root);
        let fits = |x: &u128| x.pow(root) <= whole;
        let x = (0..36).rev().map(|bit| 1_u128 << bit).fold(0, |x, bit| if fits(&(x + bit)) { x + bit } else { x });
        *constant = u32::try_from(x & 0xffff_ffff).unwrap();
    }
    constants
}

/// FIPS 180-4 §6.2.
fn sha256(message: &[u8]) -> [u8; 32] {
    let (k, mut state) = (constants::<64>(3), constants::<8>(2));
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        for t in 16..64 {
            let s0 = w[t - 15].rotate_right(7) ^ w[t - 15].rotate_right(18) ^ w[t - 15] >> 3;
            let s1 = w[t - 2].rotate_right(17) ^ w[t - 2].rotate_right(19) ^ w[t - 2] >> 10;
            w.push(w[t - 16].wrapping_add(s0).wrapping_add(w[t - 7]).wrapping_add(s1));
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        for t in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(k[t]).wrapping_add(w[t]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
        }
        for (sum, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *sum = sum.wrapping_add(add);
        }
    }
    let mut digest = [0; 32];
    digest.chunks_mut(4).zip(state).for_each(|(out, word)| out.copy_from_slice(&word.to_be_bytes()));
    digest
}

/// RFC 4231, test case 2, in base64.
#[test]
fn the_signature_of_the_rfc_is_found() {
    let tag = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_eq!((base64(b"fo"), base64(b"foo")), ("Zm8=".to_owned(), "Zm9v".to_owned()));
}
