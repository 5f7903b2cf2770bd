//! Records that stay readable in a sealed project, because other programs decide by them: lock, lease, settings. What
//! everybody sees has no name of a person's machine or project; the record itself is sealed inside of it, and the whole
//! carries a mac. Pure.

use aws_smithy_types::base64;
use ring::hmac;
use serde_json::{Map, Value};

use super::mac::{self, Mac};
use super::{Fleet, MasterKey, Place, Seal, SealError, open_bytes, seal_bytes};
use crate::context::hex;

/// The field with the sealed record, base64.
const SEALED: &str = "sealed";
/// Fields that hold names.
const NAMES: [&str; 7] =
    ["hostname", "node_id", "primary_node_id", "issued_by", "changed_by", "created_by", "project"];

impl Seal {
    /// What goes to `object` for this record. `salt`: 32 fresh random bytes.
    ///
    /// # Errors
    /// A record that is too large.
    pub fn sign(
        &self,
        record: Map<String, Value>,
        object: &str,
        cid: &str,
        salt: [u8; 32],
    ) -> Result<Map<String, Value>, SealError> {
        let Some(key) = self.key() else {
            return Ok(record);
        };
        let plain = serde_json::to_vec(&record).map_err(std::io::Error::from)?;
        let sealed = seal_bytes(&plain, key, cid, Place::Record { object }, salt)?;
        let mut shown = record;
        for name in NAMES {
            if let Some(Value::String(value)) = shown.get_mut(name) {
                *value = pseudonym(key, value);
            }
        }
        shown.insert(SEALED.to_owned(), base64::encode(sealed).into());
        mac::sign(key, object, &mut shown);
        Ok(shown)
    }

    /// The record that was signed for `object`, and whether it is authentic; where it is not, what everybody sees, or what
    /// somebody with an older key wrote.
    pub fn verify(&self, shown: Map<String, Value>, object: &str, cid: &str) -> (Map<String, Value>, Mac) {
        let Self::On(fleet) = self else {
            return (shown, Mac::Valid);
        };
        match mac::mac(&fleet.keys, object, &shown) {
            Mac::Valid => match inner(fleet, &shown, object, cid) {
                Some(record) => (record, Mac::Valid),
                None => (shown, Mac::Wrong),
            },
            // A lock that this machine left before the key was changed is to be known for its own.
            Mac::Wrong if mac::is_by_an_older_key(&fleet.keys, object, &shown) => {
                (inner(fleet, &shown, object, cid).unwrap_or(shown), Mac::Wrong)
            }
            other => (shown, other),
        }
    }

    /// A name as others may see it.
    pub fn name(&self, name: &str) -> String {
        self.key().map_or_else(|| name.to_owned(), |key| pseudonym(key, name))
    }
}

fn inner(fleet: &Fleet, shown: &Map<String, Value>, object: &str, cid: &str) -> Option<Map<String, Value>> {
    let sealed = base64::decode(shown.get(SEALED)?.as_str()?).ok()?;
    let plain = open_bytes(&sealed, &fleet.keys, cid, Place::Record { object }).ok()?;
    serde_json::from_slice(&plain).ok()
}

/// 16 hex digits for a name, the same each time; nobody stays nobody.
fn pseudonym(key: &MasterKey, name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &key.subkey("names"));
    hex(hmac::sign(&secret, name.as_bytes()).as_ref().first_chunk::<8>().unwrap_or(&[0; 8]))
}

#[cfg(test)]
mod tests {
    use super::{Mac, Seal};
    use crate::seal::{Keyring, MasterKey, Vouched, Watch};
    use serde_json::{Map, Value, json};

    fn on(byte: u8) -> Seal {
        Seal::on(Keyring::new(MasterKey::new([byte; 32])), Vouched::default(), Watch::default())
    }

    fn lease() -> Map<String, Value> {
        let record = json!({"primary_node_id": "desk", "issued_by": "", "epoch": 3, "policy": "p"});
        record.as_object().unwrap().clone()
    }

    #[test]
    fn a_signed_record_shows_no_name_and_gives_it_back() {
        let shown = on(1).sign(lease(), "lease", "cid", [5; 32]).unwrap();
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("desk"), "{text}");
        assert_eq!((shown["epoch"].as_i64(), shown["issued_by"].as_str()), (Some(3), Some("")));
        assert_eq!(shown["primary_node_id"].as_str(), Some(on(1).name("desk").as_str()));
        assert_eq!(on(1).verify(shown.clone(), "lease", "cid"), (lease(), Mac::Valid));
        // Without a key it can be read as it is.
        assert_eq!(Seal::Off.verify(shown, "lease", "cid").0["epoch"], json!(3));
        assert_eq!(Seal::Off.sign(lease(), "lease", "cid", [5; 32]).unwrap(), lease());
    }

    #[test]
    fn what_is_not_authentic_is_told_and_shown_as_it_is() {
        let shown = on(1).sign(lease(), "lease", "cid", [5; 32]).unwrap();
        let with = |name: &str, value: Value| {
            let mut edited = shown.clone();
            edited.insert(name.to_owned(), value);
            edited
        };
        let other = on(1).sign(lease(), "lock", "cid", [5; 32]).unwrap();
        let table = [
            (shown.clone(), "lock", "cid", Mac::Wrong),
            (shown.clone(), "lease", "other", Mac::Wrong),
            (with("epoch", json!(9)), "lease", "cid", Mac::Wrong),
            (with("sealed", other["sealed"].clone()), "lease", "cid", Mac::Wrong),
            (lease(), "lease", "cid", Mac::Missing),
        ];
        for (record, object, cid, expected) in table {
            assert_eq!(on(1).verify(record.clone(), object, cid), (record, expected));
        }
        assert_eq!(on(2).verify(shown.clone(), "lease", "cid").1, Mac::Wrong);
        // Names are read, and nothing is believed.
        let ring = Keyring::new(MasterKey::new([1; 32])).led_by(MasterKey::new([2; 32]));
        let anew = Seal::on(ring, Vouched::default(), Watch::default());
        assert_eq!(anew.verify(shown.clone(), "lease", "cid"), (lease(), Mac::Wrong));
        assert_eq!(anew.verify(with("epoch", json!(9)), "lease", "cid").0["epoch"], json!(9));
    }
}
