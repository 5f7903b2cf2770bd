//! What a person would swear to: which memories were recorded, which edit came of which, what was acknowledged, what was
//! deleted. Pure; the verdict compares it with what the machines hold.

use std::collections::{BTreeMap, BTreeSet};

use super::memory::{Edit, Token};

struct Change {
    token: Token,
    of: Option<Edit>,
    by: usize,
}

#[derive(Default)]
pub struct Ledger {
    tokens: u32,
    changes: Vec<Change>,
    born: BTreeSet<Token>,
    /// Edits that a sync ended well with, on some machine.
    acked: BTreeSet<Edit>,
    /// Deleted by a person: the acknowledged edits that they saw.
    deleted: BTreeMap<Token, BTreeSet<Edit>>,
    /// Edits that a person threw away before they were acknowledged, by putting an old file back.
    thrown_away: BTreeSet<Edit>,
    /// The person's own edits that an old file undid where nothing else told that the database went back.
    undone: BTreeSet<Edit>,
    /// Deleted between a crash and the recovery; nothing tells it from a row that never arrived.
    deleted_in_crash: BTreeSet<Token>,
    /// Made on each machine under the same name: one of them survives.
    merging: BTreeSet<Token>,
    /// Session and title of observations, which claude-mem's clean-up goes by.
    titles: BTreeMap<Token, String>,
    /// What a clean-up merged into a twin.
    merged: BTreeSet<Token>,
    /// Deleted sessions that rows hung on somewhere afterwards.
    kept: BTreeSet<Token>,
    /// Edits that gave a session a title, which goes from nothing to a value only.
    named: BTreeSet<Edit>,
    /// Sessions whose state a machine's own worker wrote.
    touched: BTreeSet<(usize, Token)>,
    /// Sessions that nobody can say where they were born.
    homeless: BTreeSet<Token>,
}

impl Ledger {
    pub fn next_token(&self) -> u32 {
        self.tokens
    }

    /// A new memory; the text that its row carries.
    pub fn birth(&mut self, kind: char, by: usize) -> String {
        self.tokens += 1;
        let token = format!("{kind}{}", self.tokens);
        self.born.insert(token.clone());
        self.change(token, None, by)
    }

    /// The memory that was edited last, by anybody: people go back to what they are at.
    pub fn edited_last(&self) -> Option<&Token> {
        self.changes.iter().rfind(|change| change.of.is_some()).map(|change| &change.token)
    }

    /// A new edit of a memory; the text that its row carries.
    pub fn edit(&mut self, token: &str, of: Edit, by: usize) -> String {
        self.change(token.to_owned(), Some(of), by)
    }

    fn change(&mut self, token: Token, of: Option<Edit>, by: usize) -> String {
        let edit = self.changes.len();
        let text = format!("{token}|{edit}");
        self.changes.push(Change { token, of, by });
        text
    }

    /// It was not recorded after all.
    pub fn unborn(&mut self, text: &str) {
        self.born.remove(&super::memory::parse(text).0);
    }

    pub fn merging(&mut self, text: &str) {
        self.merging.insert(super::memory::parse(text).0);
    }

    pub fn titled(&mut self, text: &str, title: String) {
        self.titles.insert(super::memory::parse(text).0, title);
    }

    pub fn acknowledge(&mut self, edit: Edit) {
        self.acked.insert(edit);
    }

    pub fn delete(&mut self, token: &str, edits: &[Edit], in_crash: bool) {
        let seen = self.deleted.entry(token.to_owned()).or_default();
        seen.extend(edits.iter().filter(|edit| self.acked.contains(edit)));
        if in_crash {
            self.deleted_in_crash.insert(token.to_owned());
        }
    }

    /// What was deleted is to come back.
    pub fn change_of_mind(&mut self) {
        self.deleted.clear();
    }

    /// A person has put an earlier version in place: whatever else became of the memory until now is undone.
    pub fn set_back(&mut self, token: &str, to: Edit) {
        let kept = self.ancestry(to);
        let all = self.changes.iter().enumerate().filter(|(_, change)| change.token == token);
        let later = all.map(|(edit, _)| edit as Edit).filter(|edit| !kept.contains(edit));
        self.undone.extend(later.collect::<Vec<_>>());
    }

    /// A memory that was deleted is back by the will of a person, in this version.
    pub fn revive(&mut self, token: &str, to: Edit) {
        self.deleted.remove(token);
        self.set_back(token, to);
    }

    /// A person deleted it, or perhaps did not: what they did was cut off.
    pub fn perhaps_deleted(&mut self, token: &str, edits: &[Edit]) {
        self.delete(token, edits, true);
    }

    /// Of these edits those that no place has, neither themselves nor what came of them.
    pub fn nowhere(
        &self,
        edits: impl IntoIterator<Item = Edit>,
        held: &BTreeMap<Token, BTreeSet<Edit>>,
    ) -> Vec<String> {
        let has = |edit: Edit| {
            let places = held.get(&self.changes[edit as usize].token);
            places.is_some_and(|places| {
                places.contains(&edit) || places.iter().any(|later| self.ancestry(*later).contains(&edit))
            })
        };
        let lost = edits.into_iter().filter(|edit| !has(*edit));
        lost.map(|edit| format!("{} in edit {edit}", self.changes[edit as usize].token)).collect()
    }

    /// Edits that were acknowledged and that nobody wanted gone.
    pub fn owed(&self) -> Vec<Edit> {
        let wanted = |edit: &&Edit| {
            let token = &self.changes[**edit as usize].token;
            !self.thrown_away.contains(*edit)
                && !self.undone.contains(*edit)
                && !self.deleted.contains_key(token)
                && !self.merging.contains(token)
                && !self.cleaned_up(token)
        };
        self.acked.iter().filter(wanted).copied().collect()
    }

    pub fn throw_away(&mut self, edits: &[Edit]) {
        self.thrown_away.extend(edits.iter().filter(|edit| !self.acked.contains(edit)));
    }

    pub fn merge(&mut self, token: &str) {
        self.merged.insert(token.to_owned());
    }

    pub fn name(&mut self, text: &str) {
        self.named.insert(super::memory::parse(text).1);
    }

    /// Sessions that have to have a title.
    pub fn must_be_named(&self) -> BTreeSet<&Token> {
        let owed = self.named.intersection(&self.acked).filter(|edit| {
            let token = &self.changes[**edit as usize].token;
            let undone = self.undone.iter().any(|undone| self.changes[*undone as usize].token == *token);
            !undone && !self.deleted.contains_key(token) && !self.merging.contains(token)
        });
        owed.map(|edit| &self.changes[*edit as usize].token).collect()
    }

    pub fn touch(&mut self, by: usize, token: &str) {
        self.touched.insert((by, token.to_owned()));
    }

    /// Everything until now was copied before anybody published it.
    pub fn copied(&mut self) {
        self.homeless.extend(self.born.iter().cloned());
    }

    /// The machine at which a session was born, where that can be told.
    pub fn home(&self, token: &str) -> Option<usize> {
        let told = !self.homeless.contains(token) && !self.merging.contains(token);
        let change = self.changes.iter().find(|change| change.token == token).filter(|_| told);
        change.map(|change| change.by)
    }

    /// Whether only what the log says can have written this session's state here.
    pub fn untouched(&self, at: usize, token: &str) -> bool {
        !self.touched.contains(&(at, token.to_owned()))
    }

    pub fn undo(&mut self, edits: impl IntoIterator<Item = Edit>) {
        self.undone.extend(edits);
    }

    /// Sessions that rows hang on somewhere: one that was deleted is kept for them.
    pub fn parents(&mut self, parents: BTreeSet<Token>) {
        self.kept.extend(parents.into_iter().filter(|token| self.deleted.contains_key(token)));
    }

    /// The edit and everything that it came of.
    pub fn ancestry(&self, edit: Edit) -> BTreeSet<Edit> {
        let of = |edit: &Edit| self.changes[*edit as usize].of;
        std::iter::successors(Some(edit), of).collect()
    }

    /// The edits from `old` to `new` if one machine's person made them all; else none.
    pub fn own_edits(&self, old: Edit, new: Edit, by: usize) -> BTreeSet<Edit> {
        let ancestry = self.ancestry(new);
        if old == new || !ancestry.contains(&old) {
            return BTreeSet::new();
        }
        let between: BTreeSet<Edit> = &ancestry - &self.ancestry(old);
        if between.iter().all(|edit| self.changes[*edit as usize].by == by) {
            between
        } else {
            BTreeSet::new()
        }
    }

    fn twins(&self, token: &str) -> Vec<&Token> {
        let Some(title) = self.titles.get(token) else { return Vec::new() };
        self.titles.iter().filter(|(_, other)| *other == title).map(|(token, _)| token).collect()
    }

    /// Whether a clean-up has merged a twin of this memory.
    fn cleaned_up(&self, token: &str) -> bool {
        self.twins(token).into_iter().any(|twin| self.merged.contains(twin))
    }

    /// What is wrong with what a machine holds. `aside`: memories that wait for a reason, here or elsewhere.
    pub fn judge(&self, here: &BTreeMap<Token, Vec<Edit>>, aside: &BTreeSet<Token>) -> Vec<String> {
        let mut wrong = Vec::new();
        for (token, edits) in here {
            if edits.len() > 1 {
                wrong.push(format!("{token} is here {} times: {edits:?}", edits.len()));
            }
            wrong.extend(self.undone_deletion(token, edits[0]));
            wrong.extend(self.replaced_by_its_ancestor(token, edits[0]));
        }
        let lost = self.born.iter().filter(|token| !aside.contains(*token) && self.lost(token, here));
        wrong.extend(lost.map(|token| format!("{token} was acknowledged and is lost")));
        wrong
    }

    fn undone_deletion(&self, token: &str, edit: Edit) -> Option<String> {
        let seen = self.deleted.get(token)?;
        let back = seen.iter().find(|deleted| self.ancestry(**deleted).contains(&edit))?;
        let excused = self.kept.contains(token)
            || self.deleted_in_crash.contains(token)
            || self.cleaned_up(token)
            || self.undone.iter().any(|edit| self.changes[*edit as usize].token == token);
        (!excused).then(|| format!("{token} was deleted at edit {back} and is back at edit {edit}"))
    }

    fn replaced_by_its_ancestor(&self, token: &str, edit: Edit) -> Option<String> {
        if token.starts_with('s') && self.deleted.contains_key(token) {
            return None;
        }
        let own = self.ancestry(edit);
        let newer = self.acked.iter().find(|newer| {
            let change = &self.changes[**newer as usize];
            let ancestry = || self.ancestry(**newer);
            change.token == token
                && **newer != edit
                && !self.thrown_away.contains(newer)
                && ancestry().contains(&edit)
                && (&ancestry() - &own).is_disjoint(&self.undone)
        })?;
        Some(format!("{token}: edit {newer} was acknowledged, and its ancestor {edit} is here"))
    }

    fn lost(&self, token: &str, here: &BTreeMap<Token, Vec<Edit>>) -> bool {
        let owed = |token: &str| {
            let mut owed = self.acked.difference(&self.thrown_away);
            owed.any(|edit| self.changes[*edit as usize].token == token)
        };
        if here.contains_key(token)
            || self.deleted.contains_key(token)
            || self.merging.contains(token)
            || !owed(token)
        {
            return false;
        }
        // A clean-up leaves one of the twins.
        !self.cleaned_up(token)
            || !self.twins(token).into_iter().any(|twin| {
                here.contains_key(twin)
                    || self.deleted.contains_key(twin)
                    || self.thrown_away.iter().any(|edit| self.changes[*edit as usize].token == *twin)
            })
    }
}
