//! Text that compresses somewhat like written language, for databases whose size on the wire is measured. Words follow
//! Zipf's law, and nothing but their frequency can be guessed: that is harder to pack than English, so that what is
//! measured is on the careful side. Only words are replaced; punctuation, numbers and paths stay.

use rusqlite::types::Value;

use super::rows::{Random, Row};

/// Words of the language. English has more, but also sentences: its next word is easier to guess.
const VOCABULARY: f64 = 3_000.0;
/// Columns that hold what people and models write.
const WRITTEN: &[&str] = &[
    "title",
    "subtitle",
    "facts",
    "narrative",
    "concepts",
    "prompt_text",
    "user_prompt",
    "request",
    "investigated",
    "learned",
    "completed",
    "next_steps",
];

/// The row with other words in what is written in it.
pub fn rewrite(row: Row, random: &mut Random) -> Row {
    row.into_iter()
        .map(|(name, value)| match value {
            Value::Text(text) if WRITTEN.contains(&name) => (name, Value::Text(reword(&text, random))),
            value => (name, value),
        })
        .collect()
}

fn reword(text: &str, random: &mut Random) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, token) in text.split(' ').enumerate() {
        if at > 0 {
            out.push(' ');
        }
        let words = token.trim_matches(|character: char| !character.is_alphanumeric());
        if words.is_empty() || !words.chars().all(char::is_alphabetic) {
            out += token;
        } else {
            out += &token.replace(words, &word(random));
        }
    }
    out
}

/// A word; the n-th most frequent is n times as rare as the first, and rarer words are longer: five letters on the
/// average of a text, as in English.
fn word(random: &mut Random) -> String {
    const ONSETS: [&str; 20] = [
        "b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr", "pr", "ch", "",
    ];
    const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "e", "a", "ea"];
    const CODAS: [&str; 8] = ["", "n", "", "s", "t", "", "d", ""];
    #[allow(clippy::cast_precision_loss)]
    let chance = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    let rank = VOCABULARY.powf(chance) as i64;
    let mut letters = Random::new("word", rank);
    let syllables = 1 + rank.ilog2() / 5;
    let mut word = String::new();
    for _ in 0..syllables {
        let bits = letters.next() as usize;
        word += ONSETS[bits % 20];
        word += VOWELS[(bits >> 8) % 8];
        word += CODAS[(bits >> 16) % 8];
    }
    word
}
