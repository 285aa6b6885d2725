//! Signatures: how a vendor signs, how its receivers verify, and why one does not verify.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use serde::Serialize;
use sha2::Sha256;

use crate::subscriber::Secret;

/// How one vendor signs: HMAC with SHA-256 over the id (if any), the timestamp and the body,
/// joined by full stops.
#[derive(Debug)]
pub struct Scheme {
    /// The headers of the id, the timestamp and the signature.
    pub id: Option<&'static str>,
    pub timestamp: &'static str,
    pub signature: &'static str,
    pub unit: Unit,
    pub encoding: Encoding,
    /// The key's bytes of a secret's text. The error is a text for the user.
    pub key: fn(&str) -> Result<Vec<u8>, String>,
}

/// What the timestamp counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
}

/// How the signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Lower-case hex.
    Hex,
    /// `v1,` and base64; several may stand in one header, separated by spaces.
    VersionedBase64,
}

/// Why a signature is right or wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Explanation {
    pub valid: bool,
    /// The bytes that are signed, as text.
    pub signed: String,
    /// How many bytes are signed.
    pub signed_bytes: usize,
    /// The signature header as this secret makes it.
    pub expected: String,
    /// The signature header as it came.
    pub received: Option<String>,
    /// What is wrong, most likely first.
    pub diagnosis: Vec<String>,
}

impl Encoding {
    fn write(self, signature: &[u8]) -> String {
        match self {
            Self::Hex => hex::encode(signature),
            Self::VersionedBase64 => format!("v1,{}", BASE64.encode(signature)),
        }
    }

    /// The signatures in a header, as the vendor's receivers read it.
    fn read(self, header: &str) -> Vec<Vec<u8>> {
        match self {
            Self::Hex => hex::decode(header).into_iter().collect(),
            Self::VersionedBase64 => {
                let one = |part: &str| BASE64.decode(part.strip_prefix("v1,")?).ok();
                header.split(' ').filter_map(one).collect()
            }
        }
    }
}

impl Scheme {
    /// A time as the timestamp header writes it.
    pub fn write_time(&self, at: DateTime<Utc>) -> String {
        match self.unit {
            Unit::Seconds => at.timestamp().to_string(),
            Unit::Milliseconds => at.timestamp_millis().to_string(),
        }
    }

    /// Whether one header carries the signatures of several secrets.
    pub fn takes_several(&self) -> bool {
        self.encoding == Encoding::VersionedBase64
    }

    /// The headers for exactly this body, with the timestamp as it is to be written, signed by each
    /// secret as far as the vendor's header takes several.
    pub fn sign(&self, id: &str, timestamp: String, body: &[u8], secrets: &[&Secret]) -> Vec<(&'static str, String)> {
        let message = self.message(id, &timestamp, body, ".");
        let sign = |secret: &&Secret| {
            // A secret that no longer parses signs with its text, and so fails at the receiver.
            let key = (self.key)(secret.reveal()).unwrap_or_else(|_| secret.reveal().as_bytes().to_vec());
            self.encoding.write(&hmac(&key, &message).finalize().into_bytes())
        };
        let count = if self.takes_several() { secrets.len() } else { 1 };
        let signatures: Vec<String> = secrets.iter().take(count).map(sign).collect();
        let signature = (self.signature, signatures.join(" "));
        let timestamp = (self.timestamp, timestamp);
        match self.id {
            Some(name) => vec![(name, id.to_owned()), timestamp, signature],
            None => vec![signature, timestamp],
        }
    }

    /// Checks a request as the vendor's receivers are told to. The error says what is wrong.
    pub fn verify(&self, secret: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let key = (self.key)(secret.reveal()).map_err(|reason| format!("the secret {reason}"))?;
        let id = self.id.map_or(Ok(""), |name| header(headers, name))?;
        let timestamp = header(headers, self.timestamp)?;
        let received = self.encoding.read(header(headers, self.signature)?);
        let message = self.message(id, timestamp, body, ".");
        if received.iter().any(|signature| hmac(&key, &message).verify_slice(signature).is_ok()) {
            Ok(())
        } else {
            Err(format!("{} does not match the body, the timestamp and this secret", self.signature))
        }
    }

    /// Explains why a request verifies or not. Where it does not, tries the usual mistakes on the
    /// body, the timestamp, the secret and the joiner, and names those that give what was received.
    pub fn explain(&self, secret: &Secret, old: &[Secret], headers: &HeaderMap, body: &[u8]) -> Explanation {
        let present = |name| header(headers, name).map(str::to_owned);
        let id = self.id.map(present).unwrap_or_else(|| Ok(String::new()));
        let timestamp = present(self.timestamp);
        let received = present(self.signature);
        let verdict = self.verify(secret, headers, body);
        let (id_text, time_text) = (id.clone().unwrap_or_default(), timestamp.clone().unwrap_or_default());
        let message = self.message(&id_text, &time_text, body, ".");
        let key = (self.key)(secret.reveal());
        let expected = key.as_ref().map(|key| self.encoding.write(&hmac(key, &message).finalize().into_bytes()));
        let mut diagnosis: Vec<String> =
            [id.err(), timestamp.err(), received.clone().err()].into_iter().flatten().collect();
        diagnosis.extend(key.as_ref().err().map(|reason| format!("the secret {reason}")));
        if let (Err(wrong), true, Ok(received)) = (&verdict, diagnosis.is_empty(), &received) {
            let found = self.find_mistakes(secret, old, &id_text, &time_text, body, received);
            diagnosis = found.unwrap_or_else(|| {
                vec![format!("{wrong}; none of the usual mistakes gives what was received: check the secret, and that the body is the raw bytes")]
            });
        }
        Explanation {
            valid: verdict.is_ok(),
            signed: String::from_utf8_lossy(&message).into_owned(),
            signed_bytes: message.len(),
            expected: expected.unwrap_or_default(),
            received: received.ok(),
            diagnosis,
        }
    }

    /// The smallest set of mistakes that gives the received signature.
    fn find_mistakes(
        &self,
        secret: &Secret,
        old: &[Secret],
        id: &str,
        timestamp: &str,
        body: &[u8],
        received: &str,
    ) -> Option<Vec<String>> {
        let bodies = body_variants(body);
        let times = time_variants(timestamp);
        let keys = self.key_variants(secret, old);
        let written = self.written_variants(received);
        let mut best: Option<Vec<String>> = None;
        for (body_mistake, body) in &bodies {
            for (time_mistake, time) in &times {
                for (joiner_mistake, joiner) in JOINERS {
                    let message = self.message(id, time, body, joiner);
                    for (key_mistake, key) in &keys {
                        let made = hmac(key, &message).finalize().into_bytes();
                        let Some((written_mistake, _)) = written.iter().find(|(_, bytes)| *bytes == made[..]) else {
                            continue;
                        };
                        let mistakes: Vec<String> =
                            [*body_mistake, *time_mistake, joiner_mistake, *key_mistake, *written_mistake]
                                .into_iter()
                                .filter(|mistake| !mistake.is_empty())
                                .map(str::to_owned)
                                .collect();
                        if best.as_ref().is_none_or(|best| mistakes.len() < best.len()) {
                            best = Some(mistakes);
                        }
                    }
                }
            }
        }
        best
    }

    fn message(&self, id: &str, timestamp: &str, body: &[u8], joiner: &str) -> Vec<u8> {
        let head =
            if self.id.is_some() { format!("{id}{joiner}{timestamp}{joiner}") } else { format!("{timestamp}{joiner}") };
        [head.as_bytes(), body].concat()
    }

    /// Keys that are made from secrets by mistake, the right one first.
    fn key_variants(&self, secret: &Secret, old: &[Secret]) -> Vec<(&'static str, Vec<u8>)> {
        let text = secret.reveal();
        let bare = text.strip_prefix("whsec_").unwrap_or(text);
        let mut keys: Vec<(&'static str, Vec<u8>)> = (self.key)(text).map(|key| ("", key)).into_iter().collect();
        keys.extend(
            old.iter().filter_map(|old| Some(("it was signed with an old secret", (self.key)(old.reveal()).ok()?))),
        );
        keys.push(("the key was the secret's whole text, prefix and all", text.as_bytes().to_vec()));
        keys.push(("the key was the secret without its prefix, but not decoded from base64", bare.as_bytes().to_vec()));
        keys.extend(BASE64.decode(bare).map(|key| ("the key was the secret decoded from base64", key)));
        keys.extend(hex::decode(bare).map(|key| ("the key was the secret decoded from hex", key)));
        keys.push(("the secret had a line break at its end", format!("{text}\n").into_bytes()));
        keys
    }

    /// The bytes that a signature header may stand for, the right reading first.
    fn written_variants(&self, received: &str) -> Vec<(&'static str, Vec<u8>)> {
        let mut variants: Vec<(&'static str, Vec<u8>)> =
            self.encoding.read(received).into_iter().map(|bytes| ("", bytes)).collect();
        let bare = received.trim().trim_start_matches("sha256=").trim_start_matches("v1,").trim_start_matches("v1=");
        let (hex_mistake, base64_mistake) = match self.encoding {
            Encoding::Hex => ("it has a prefix that this vendor does not write", "it is written in base64, not in hex"),
            Encoding::VersionedBase64 => {
                ("it is written in hex, not as `v1,` and base64", "it lacks `v1,` before the base64")
            }
        };
        variants.extend(hex::decode(bare).map(|bytes| (hex_mistake, bytes)));
        variants.extend(BASE64.decode(bare).map(|bytes| (base64_mistake, bytes)));
        variants
    }
}

const JOINERS: [(&str, &str); 5] = [
    ("", "."),
    ("the parts were joined by nothing, not by a full stop", ""),
    ("the parts were joined by a colon, not by a full stop", ":"),
    ("the parts were joined by a line break, not by a full stop", "\n"),
    ("the parts were joined by a space, not by a full stop", " "),
];

/// Bodies that are signed, or checked, by mistake; the one as it came first.
fn body_variants(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut variants = vec![("", body.to_vec())];
    match body.strip_suffix(b"\n") {
        Some(bare) => {
            let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
            variants.push(("a line break was added to the body after it was signed", bare.to_vec()));
        }
        None => variants.push(("a line break at the end of the body was lost", [body, b"\n"].concat())),
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return variants };
    let reserialised = "the body was parsed and serialised again: sign and verify the raw bytes";
    let compact = value.to_string();
    variants.push((reserialised, compact.clone().into_bytes()));
    variants.push((reserialised, format!("{value:#}").into_bytes()));
    variants.push((reserialised, spaced(&compact).into_bytes()));
    variants.push((reserialised, escaped(&compact).into_bytes()));
    variants.push((reserialised, escaped(&spaced(&compact)).into_bytes()));
    variants
}

/// Compact JSON with a space after each colon and comma, as Python writes it.
fn spaced(compact: &str) -> String {
    let mut in_text = false;
    let mut is_escaped = false;
    let mut spaced = String::with_capacity(compact.len() * 2);
    for c in compact.chars() {
        spaced.push(c);
        if !in_text && matches!(c, ':' | ',') {
            spaced.push(' ');
        }
        in_text ^= c == '"' && !is_escaped;
        is_escaped = in_text && c == '\\' && !is_escaped;
    }
    spaced
}

/// JSON with everything but ASCII escaped, as some languages write it by default.
fn escaped(json: &str) -> String {
    let mut units = [0; 2];
    let mut escape = |c: char| {
        if c.is_ascii() {
            c.to_string()
        } else {
            c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }
    };
    json.chars().map(&mut escape).collect()
}

/// Timestamps that are signed by mistake; the one as it came first.
fn time_variants(timestamp: &str) -> Vec<(&'static str, String)> {
    let mut variants = vec![("", timestamp.to_owned())];
    if let Ok(number) = timestamp.parse::<i64>() {
        variants.push(("the timestamp was signed in seconds, but sent in milliseconds", (number / 1000).to_string()));
        let milliseconds = number.saturating_mul(1000).to_string();
        variants.push(("the timestamp was signed in milliseconds, but sent in seconds", milliseconds));
    }
    variants
}

fn hmac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac
}

/// One header's text, or an error that names it.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, String> {
    let value = headers.get(name).ok_or_else(|| format!("the header {name} is missing"))?;
    value.to_str().map_err(|_| format!("the header {name} is not text"))
}
