//! What a run met in a sealed project, did not believe and went on without, for whoever tells the person of it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// More than these are told by the first of them.
const MOST: usize = 8;

/// Objects that are not authentic, and what is wrong with each.
#[derive(Debug, Default)]
pub struct Refused(Mutex<BTreeSet<String>>);

impl Refused {
    /// One more.
    pub fn note(&self, what: String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST {
            all.insert(what);
        }
    }

    /// All of them, each once.
    pub fn told(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Refused};

    #[test]
    fn each_is_told_once_and_never_more_than_can_be_read() {
        let refused = Refused::default();
        for number in 0..100 {
            refused.note(format!("{:02}", number / 2));
        }
        assert_eq!(refused.told().len(), MOST);
        assert_eq!(refused.told()[..2], ["00", "01"]);
    }
}
