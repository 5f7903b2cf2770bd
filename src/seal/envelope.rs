//! A sealed record: the JSON object that takes the place of a commit or a node record in a sealed project. In the clear
//! it says no more than that it is sealed, with which key, and its number. Pure.

use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};

use super::key::KeyId;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// 2: a membridge that cannot open it refuses it by this number.
    pub schema: u32,
    /// The number of a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The key's public name, 32 hex digits.
    pub key_id: String,
    /// The sealed object, base64 (RFC 4648, with padding).
    pub sealed: String,
}

impl Envelope {
    /// The only schema of sealed records.
    pub const SCHEMA: u32 = 2;

    /// Around a sealed object.
    pub fn around(sealed: &[u8], key: KeyId, number: Option<u64>) -> Self {
        Self { schema: Self::SCHEMA, number, key_id: key.to_string(), sealed: base64::encode(sealed) }
    }

    /// Reads one; `None` when the bytes are another JSON object, or none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let envelope: Self = serde_json::from_slice(bytes).ok()?;
        (envelope.schema == Self::SCHEMA).then_some(envelope)
    }

    /// The sealed object; `None` when it is no base64.
    pub fn content(&self) -> Option<Vec<u8>> {
        base64::decode(&self.sealed).ok()
    }
}
