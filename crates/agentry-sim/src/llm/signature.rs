//! Signatures of reasoning: what the simulator made, it recognizes when it comes back.
//!
//! A signature is hexadecimal, which is valid base64 too, because some clients decode it.

use super::fingerprint::RequestPrint;
use super::prefix::Prefix;
use crate::digest::{hex, hmac};

const KEY: &[u8] = b"agentry-sim: signatures of reasoning";
const PREFIX_BYTES: usize = 24;
const MODEL_BYTES: usize = 8;
const MAC_BYTES: usize = 16;

/// What became of a signed piece of reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureCheck {
    Intact,
    /// The piece is intact and stands after something else; the text says what differs.
    Moved(&'static str),
    /// Another model made it.
    Foreign,
    /// The text or the signature was changed.
    Altered,
}

/// Signs reasoning of `model` that was made after `prefix`.
pub(super) fn sign(model: &str, text: &str, prefix: Prefix) -> String {
    let Prefix { tools, system, messages } = prefix;
    let model = RequestPrint::default().text(model);
    let mut bytes: Vec<u8> = [tools, system, messages, model].iter().flat_map(|part| part.0.to_be_bytes()).collect();
    bytes.extend(mac(&bytes, text));
    hex(&bytes)
}

/// Judges reasoning that came back to `model` after `prefix`.
pub(super) fn verify(signature: &str, model: &str, text: &str, prefix: Prefix) -> SignatureCheck {
    let Some(bytes) = unhex(signature).filter(|bytes| bytes.len() == PREFIX_BYTES + MODEL_BYTES + MAC_BYTES) else {
        return SignatureCheck::Altered;
    };
    let (signed, seal) = bytes.split_at(PREFIX_BYTES + MODEL_BYTES);
    if seal != mac(signed, text) {
        return SignatureCheck::Altered;
    }
    let part = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&signed[at * 8..(at + 1) * 8]);
        RequestPrint(u64::from_be_bytes(word))
    };
    if part(3) != RequestPrint::default().text(model) {
        return SignatureCheck::Foreign;
    }
    if part(1) != prefix.system {
        SignatureCheck::Moved("The `system` prompt differs from the one this block was created with.")
    } else if part(0) != prefix.tools {
        SignatureCheck::Moved("The `tools` differ from the ones this block was created with.")
    } else if part(2) != prefix.messages {
        SignatureCheck::Moved("The preceding `messages` differ from the ones this block was created with.")
    } else {
        SignatureCheck::Intact
    }
}

fn mac(signed: &[u8], text: &str) -> Vec<u8> {
    let mut mac = hmac(KEY, &[signed, text.as_bytes()]);
    mac.truncate(MAC_BYTES);
    mac
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect::<Option<_>>();
    digits
        .filter(|digits| digits.len() % 2 == 0)
        .map(|digits| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_bound_to_model_text_and_prefix() {
        let prefix = |system: &str| Prefix { system: RequestPrint::default().text(system), ..Prefix::default() };
        let signed = sign("m", "so", prefix("s"));
        let judge = |signature: &str, model, text, system| verify(signature, model, text, prefix(system));
        assert_eq!(judge(&signed, "m", "so", "s"), SignatureCheck::Intact);
        assert_eq!(judge(&signed, "m", "so!", "s"), SignatureCheck::Altered);
        assert_eq!(judge(&signed, "other", "so", "s"), SignatureCheck::Foreign);
        assert!(matches!(judge(&signed, "m", "so", "t"), SignatureCheck::Moved(what) if what.contains("system")));
        for bad in ["", "xyz", &signed[2..], &signed.replace('a', "b")] {
            assert_eq!(judge(bad, "m", "so", "s"), SignatureCheck::Altered, "{bad}");
        }
    }
}
