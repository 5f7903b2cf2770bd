//! A fingerprint of six words, for people to compare two screens: both have the key and see the same head. The words are
//! our own list; no two begin with the same three letters.

use ring::hmac;

use super::key::MasterKey;
use super::memory::Seen;

/// One for each value of a byte.
#[rustfmt::skip]
const WORDS: [&str; 256] = [
    "acorn", "actor", "alarm", "album", "alley", "amber", "anchor", "ankle", "apple", "apron", "arrow",
    "aspen", "badge", "bagel", "baker", "banjo", "barn", "basil", "beach", "bench", "berry", "birch",
    "bishop", "blanket", "bonfire", "boot", "bottle", "bowl", "bread", "brick", "broom", "bucket",
    "butter", "cabin", "cactus", "camel", "candle", "carpet", "castle", "cedar", "cellar", "chalk",
    "cherry", "circle", "clock", "cobalt", "coffee", "comet", "copper", "cotton", "crane", "cricket",
    "dairy", "dancer", "delta", "denim", "desert", "diary", "dinner", "dolphin", "donkey", "drum", "dune",
    "eagle", "easel", "echo", "elbow", "elder", "ember", "engine", "envelope", "fabric", "falcon",
    "farmer", "feather", "fence", "fern", "fiddle", "finger", "flag", "flute", "forest", "fossil",
    "fountain", "fox", "frost", "fudge", "funnel", "galaxy", "garden", "gecko", "ginger", "giraffe",
    "glacier", "glove", "goat", "granite", "guitar", "hammer", "harbor", "hazel", "hedge", "helmet",
    "heron", "honey", "hood", "hotel", "hunter", "icicle", "igloo", "indigo", "insect", "island", "ivory",
    "jacket", "jaguar", "jelly", "jigsaw", "judge", "jungle", "kayak", "kernel", "kettle", "kitten",
    "knight", "koala", "ladder", "lagoon", "lantern", "laurel", "lemon", "lettuce", "library", "lime",
    "lizard", "lobster", "locket", "lumber", "magnet", "mango", "maple", "marble", "meadow", "melon",
    "mirror", "mitten", "monkey", "mosaic", "motor", "mustard", "nectar", "needle", "nephew", "nickel",
    "noodle", "nutmeg", "oasis", "ocean", "olive", "onion", "opera", "orbit", "orchid", "otter", "oven",
    "oyster", "paddle", "palace", "panda", "parrot", "pebble", "pelican", "pencil", "pepper", "piano",
    "pigeon", "pillow", "pirate", "planet", "plum", "pocket", "polar", "pony", "potato", "prism", "puffin",
    "pumpkin", "puzzle", "quail", "quill", "rabbit", "radio", "raven", "ribbon", "river", "robin",
    "rocket", "rope", "rubber", "saddle", "salmon", "sandal", "satin", "saucer", "school", "scissors",
    "shadow", "shell", "silver", "skate", "slipper", "snail", "sparrow", "spoon", "squirrel", "stable",
    "sugar", "summer", "sunset", "swan", "tailor", "tango", "teapot", "temple", "thimble", "thunder",
    "ticket", "tiger", "timber", "toast", "tomato", "tractor", "trumpet", "tulip", "tunnel", "turtle",
    "twig", "umbrella", "uncle", "urchin", "valley", "vanilla", "velvet", "violin", "volcano", "waffle",
    "walnut", "water", "whale", "wheat", "willow", "window", "yarn", "yogurt", "zebra", "zipper",
];

/// Six words for a key and the newest commit (`None`: there is none yet). Only whoever has the key can compute them.
pub fn fingerprint(key: &MasterKey, cid: &str, head: Option<&Seen>) -> [&'static str; 6] {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &key.subkey("fingerprint"));
    let head = head.map_or(String::new(), |head| format!("{} {}", head.number, head.sha256));
    let tag = hmac::sign(&secret, format!("{cid} {head}").as_bytes());
    let mut words = [""; 6];
    for (word, byte) in words.iter_mut().zip(tag.as_ref()) {
        *word = WORDS.get(usize::from(*byte)).copied().unwrap_or_default();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{WORDS, fingerprint};
    use crate::seal::{MasterKey, Seen};
    use std::collections::BTreeSet;

    #[test]
    fn the_words_can_be_told_apart() {
        let openings: BTreeSet<&str> = WORDS.iter().map(|word| &word[..3]).collect();
        assert_eq!(openings.len(), 256);
        assert!(WORDS.iter().all(|word| word.bytes().all(|letter| letter.is_ascii_lowercase())));
        assert!(WORDS.is_sorted());
    }

    #[test]
    fn the_fingerprint_is_that_of_key_project_and_head() {
        let head = Seen { number: 3, sha256: [0xab; 32].into() };
        let other = Seen { number: 4, ..head.clone() };
        let [first, second] = [MasterKey::new([1; 32]), MasterKey::new([2; 32])];
        let prints = BTreeSet::from([
            fingerprint(&first, "p", Some(&head)),
            fingerprint(&first, "p", Some(&other)),
            fingerprint(&first, "p", None),
            fingerprint(&first, "q", Some(&head)),
            fingerprint(&second, "p", Some(&head)),
        ]);
        assert_eq!(prints.len(), 5);
        assert_eq!(fingerprint(&first, "p", Some(&head)), fingerprint(&first, "p", Some(&head.clone())));
    }
}
