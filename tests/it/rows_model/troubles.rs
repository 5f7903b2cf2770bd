//! What may go wrong in a life. Each class of trouble can be left out, to find which one a failing life needs.

/// Classes of trouble of the random lives.
#[derive(Clone, Copy, Debug)]
pub struct Troubles {
    /// At most so many machines at the start.
    pub machines: usize,
    pub steps: usize,
    /// Kills at any failpoint.
    pub crashes: bool,
    /// Shadows that are lost, with and without the writer id.
    pub shadows: bool,
    /// Old files that are put back.
    pub old_files: bool,
    /// State directories that are copied.
    pub clones: bool,
    /// The store's clock jumps.
    pub jumps: bool,
    /// A machine stays away for a year.
    pub years: bool,
    /// Migrations that rewrite rows.
    pub upgrades: bool,
    /// Deletions, with whole sessions.
    pub deletions: bool,
    /// Deletions in mass that a person accepts.
    pub purges: bool,
    /// Rows that vanish in mass without anybody's will.
    pub vanishing: bool,
    /// Python images and mirrors.
    pub python: bool,
    /// Others sync between a scan and its publishing.
    pub interleaved: bool,
    /// Segments that arrive late and out of order.
    pub late: bool,
    /// Segments are folded while others are behind.
    pub folding: bool,
    /// Two rows are born with one key.
    pub twin_keys: bool,
    /// Texts that are no UTF-8.
    pub bad_text: bool,
    /// Syncs after a turn, which look at what is new alone.
    pub turns: bool,
}

impl Troubles {
    /// A quiet life: rows, edits, syncs.
    pub const NONE: Troubles = Troubles {
        machines: 4,
        steps: 40,
        crashes: false,
        shadows: false,
        old_files: false,
        clones: false,
        jumps: false,
        years: false,
        upgrades: false,
        deletions: false,
        purges: false,
        vanishing: false,
        python: false,
        interleaved: false,
        late: false,
        folding: false,
        twin_keys: false,
        bad_text: false,
        turns: false,
    };

    /// Everything.
    pub const ALL: Troubles = Troubles {
        machines: 4,
        steps: 40,
        crashes: true,
        shadows: true,
        old_files: true,
        clones: true,
        jumps: true,
        years: true,
        upgrades: true,
        deletions: true,
        purges: true,
        vanishing: true,
        python: true,
        interleaved: true,
        late: true,
        folding: true,
        twin_keys: true,
        bad_text: true,
        turns: true,
    };

    /// Named classes alone, as `ROWS_TROUBLES` has them: `crashes,late`, or `all`, or `all-python`.
    pub fn named(text: &str) -> Troubles {
        let (mut troubles, without) = match text.strip_prefix("all") {
            Some(rest) => (Troubles::ALL, rest.split('-').skip(1).collect::<Vec<_>>()),
            None => (Troubles::NONE, Vec::new()),
        };
        for name in without {
            *troubles.class(name) = false;
        }
        if !text.starts_with("all") {
            text.split(',').filter(|name| !name.is_empty()).for_each(|name| *troubles.class(name) = true);
        }
        troubles
    }

    fn class(&mut self, name: &str) -> &mut bool {
        match name {
            "crashes" => &mut self.crashes,
            "shadows" => &mut self.shadows,
            "old_files" => &mut self.old_files,
            "clones" => &mut self.clones,
            "jumps" => &mut self.jumps,
            "years" => &mut self.years,
            "upgrades" => &mut self.upgrades,
            "deletions" => &mut self.deletions,
            "purges" => &mut self.purges,
            "vanishing" => &mut self.vanishing,
            "python" => &mut self.python,
            "interleaved" => &mut self.interleaved,
            "late" => &mut self.late,
            "folding" => &mut self.folding,
            "twin_keys" => &mut self.twin_keys,
            "bad_text" => &mut self.bad_text,
            "turns" => &mut self.turns,
            _ => panic!("no class of trouble is named {name:?}"),
        }
    }
}
