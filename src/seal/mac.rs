//! The mac of a record that stays readable (Python nodes lock by it): HMAC-SHA256 over the object's key and the record as
//! canonical JSON. Whoever has only the bucket can move no record and make none. Pure.

use ring::hmac;
use serde_json::{Map, Value};

use super::key::{KeyId, Keyring, MasterKey};
use crate::context::hex;

/// The field with the mac, 64 hex digits.
const MAC: &str = "mac";
/// The field with the key's public name.
const KEY: &str = "key_id";

/// What a record's mac says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mac {
    /// Somebody with the key wrote this record, for this object.
    Valid,
    /// It has none.
    Missing,
    /// It has one that does not fit.
    Wrong,
}

/// Adds `key_id` and `mac` to a record that goes to `object`. A record with a number that is no integer gets none: no two
/// programs write such a number in the same way.
pub(super) fn sign(key: &MasterKey, object: &str, record: &mut Map<String, Value>) {
    record.remove(MAC);
    record.insert(KEY.to_owned(), key.id().to_string().into());
    if let Some(tag) = tag(key, object, record) {
        record.insert(MAC.to_owned(), hex(tag.as_ref()).into());
    }
}

/// What the mac of a record that was found at `object` says.
pub(super) fn mac(keys: &Keyring, object: &str, record: &Map<String, Value>) -> Mac {
    let Some(mac) = record.get(MAC) else {
        return Mac::Missing;
    };
    let id = record.get(KEY).and_then(Value::as_str).and_then(KeyId::parse);
    // An older key may be in the hands of whoever found a lost machine.
    let key = Some(keys.current()).filter(|key| Some(key.id()) == id);
    let tag = key.and_then(|key| tag(key, object, record));
    match (tag, mac.as_str()) {
        // Both are public, so that the time of the comparison tells nothing.
        (Some(tag), Some(mac)) if hex(tag.as_ref()) == mac => Mac::Valid,
        _ => Mac::Wrong,
    }
}

/// Whether somebody with an older key wrote this record: it is not believed, but it says who that was.
pub(super) fn is_by_an_older_key(keys: &Keyring, object: &str, record: &Map<String, Value>) -> bool {
    let mut older = keys.all().skip(1).cloned();
    older.any(|key| mac(&Keyring::new(key), object, record) == Mac::Valid)
}

fn tag(key: &MasterKey, object: &str, record: &Map<String, Value>) -> Option<hmac::Tag> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.subkey("record-mac"));
    let mut text = String::new();
    canonical_object(record, true, 0, &mut text)?;
    let mut context = hmac::Context::with_key(&key);
    context.update(&u32::try_from(object.len()).ok()?.to_le_bytes());
    context.update(object.as_bytes());
    context.update(text.as_bytes());
    Some(context.sign())
}

/// Deeper records than this are nobody's.
const DEPTH: usize = 16;

/// Canonical JSON: no space, keys in the order of their bytes, strings as they are but for `"`, `\` and control
/// characters. `None` for numbers that are no integers and for what is nested too deeply.
fn canonical(value: &Value, depth: usize, text: &mut String) -> Option<()> {
    match value {
        Value::Object(object) => canonical_object(object, false, depth, text)?,
        Value::Array(items) => {
            (depth < DEPTH).then_some(())?;
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                canonical(item, depth + 1, text)?;
            }
            text.push(']');
        }
        Value::Number(number) if !number.is_i64() && !number.is_u64() => return None,
        plain => text.push_str(&serde_json::to_string(plain).ok()?),
    }
    Some(())
}

fn canonical_object(
    object: &Map<String, Value>,
    outermost: bool,
    depth: usize,
    text: &mut String,
) -> Option<()> {
    (depth < DEPTH).then_some(())?;
    let mut fields: Vec<_> = object.iter().filter(|(name, _)| !(outermost && *name == MAC)).collect();
    fields.sort_by_key(|(name, _)| *name);
    text.push('{');
    for (at, (name, value)) in fields.into_iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        text.push_str(&serde_json::to_string(name).ok()?);
        text.push(':');
        canonical(value, depth + 1, text)?;
    }
    text.push('}');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{Mac, canonical, mac, sign};
    use crate::seal::{Keyring, MasterKey};
    use serde_json::{Map, Value, json};

    fn record(value: Value) -> Map<String, Value> {
        let Value::Object(record) = value else { panic!("a record is an object") };
        record
    }

    #[test]
    fn canonical_json_is_one_text() {
        let table = [
            (
                json!({"b": 1, "a": [true, null, "x\n\"é\u{7f}\u{1}"]}),
                "{\"a\":[true,null,\"x\\n\\\"é\u{7f}\\u0001\"],\"b\":1}",
            ),
            (json!({"é": -1, "z": {"mac": 1}}), "{\"z\":{\"mac\":1},\"é\":-1}"),
            (json!({}), "{}"),
        ];
        for (value, expected) in table {
            let mut text = String::new();
            canonical(&value, 0, &mut text).unwrap();
            assert_eq!(text, expected);
        }
        assert_eq!(canonical(&json!({"a": 1.5}), 0, &mut String::new()), None);
        let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(canonical(&deep, 0, &mut String::new()), None);
    }

    #[test]
    fn a_mac_holds_for_one_record_at_one_place() {
        let keys = Keyring::new(MasterKey::new([1; 32]));
        let mut lease = record(json!({"primary_node_id": "desk", "epoch": 3}));
        assert_eq!(mac(&keys, "lease", &lease), Mac::Missing);
        sign(keys.current(), "lease", &mut lease);
        assert_eq!(mac(&keys, "lease", &lease), Mac::Valid);
        // The order of the fields and a second signature change nothing.
        let mut again: Map<String, Value> = lease.iter().rev().map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(mac(&keys, "lease", &again), Mac::Valid);
        sign(keys.current(), "lease", &mut again);
        assert_eq!(again.get("mac"), lease.get("mac"));

        assert_eq!(mac(&keys, "lock", &lease), Mac::Wrong);
        let edits = [
            ("epoch", json!(4)),
            ("epoch", json!(3.5)),
            ("more", json!(1)),
            ("mac", json!(7)),
            ("key_id", json!("x")),
        ];
        for (field, value) in edits {
            let mut edited = lease.clone();
            edited.insert(field.to_owned(), value);
            assert_eq!(mac(&keys, "lease", &edited), Mac::Wrong, "{field}");
        }
        let others = Keyring::new(MasterKey::new([2; 32]));
        assert_eq!(mac(&others, "lease", &lease), Mac::Wrong);
        let rotated = others.led_by(MasterKey::new([1; 32]));
        assert_eq!(mac(&rotated, "lease", &lease), Mac::Valid);
        assert_eq!(mac(&rotated.led_by(MasterKey::new([3; 32])), "lease", &lease), Mac::Wrong);
    }
}
