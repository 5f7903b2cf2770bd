//! The histories that killed an earlier rule in which a file is put back, rows vanish, or a migration rewrites them.

use super::memory::Memory;
use super::story::Story;
use super::upgrade::upgraded;
use crate::support::claude_mem::Version::{self, V10_3_3, V13_25_3};

#[test]
fn an_old_file_does_not_bring_old_content_back() {
    let mut story = Story::new(2);
    story.session(0, "c", 3);
    story.sql(0, "UPDATE observations SET narrative='OLD'");
    story.sync(&[0, 1]);
    story.world.keep_old_file(0);
    story.sql(1, "UPDATE observations SET narrative='NEW'");
    story.sync(&[1, 0]);
    story.observation(0, "c");
    story.sync(&[0, 1]);
    story.world.put_old_file_back(0);
    story.sync(&[0, 1, 0, 1]);
    story.ends_with("SELECT group_concat(narrative) FROM observations", &["NEW,NEW,NEW,n"]);
}

#[test]
fn ids_that_an_old_file_gives_again_are_other_rows() {
    let mut story = Story::new(2);
    story.session(0, "c", 4);
    story.sync(&[0, 1]);
    story.world.keep_old_file(0);
    story.observation(0, "c");
    story.observation(0, "c");
    story.sync(&[0, 1]);
    story.world.put_old_file_back(0);
    (0..3).for_each(|_| story.observation(0, "c"));
    story.sync(&[0, 1, 0, 1]);
    story.ends_with_count("observations", 9);
}

#[test]
fn a_deleted_row_that_an_old_file_brings_back_is_deleted_again() {
    let mut story = Story::new(2);
    story.session(0, "c", 4);
    story.sync(&[0, 1]);
    story.world.keep_old_file(0);
    story.delete(0, "DELETE FROM observations WHERE id=2");
    story.sync(&[0, 1]);
    story.world.put_old_file_back(0);
    story.sync(&[0, 1, 0, 1]);
    story.ends_with_count("observations", 3);
}

#[test]
fn columns_that_an_older_release_lacks_survive_its_edits_and_its_upgrade() {
    let mut story = Story::of(&[V13_25_3, V10_3_3, V13_25_3]);
    story.session(0, "c", 1);
    story.sql(0, "UPDATE observations SET generated_by_model='opus'");
    story.sync(&[0, 1]);
    story.sql(1, "UPDATE observations SET narrative='B'");
    story.sync(&[1, 0]);
    story.world.upgrade(1, V13_25_3, false, true);
    story.sync(&[1, 0, 1]);
    story.fold(0);
    story.sync(&[2, 0, 1, 2]);
    story.ends_with("SELECT generated_by_model || narrative FROM observations", &["opusB"]);
}

#[test]
fn rows_that_vanish_in_mass_are_held_until_somebody_says_what_they_are() {
    for put_back in [false, true] {
        let mut story = Story::new(2);
        story.session(0, "c", 100);
        story.sync(&[0, 1]);
        story.delete(0, "DELETE FROM observations WHERE id<=60");
        let machine = &mut story.world.machines[0];
        machine.asked = false;
        story.sync(&[0, 1, 0, 1]);
        let count = story.values("SELECT count(*) FROM observations");
        assert_eq!(count, [["40"], ["100"]], "held: not deleted elsewhere, not put back");
        let machine = &mut story.world.machines[0];
        machine.puts_back = put_back;
        machine.accepts = !put_back;
        story.sync(&[0, 1]);
        if put_back {
            story.world.ledger.change_of_mind();
        }
        story.ends_with_count("observations", if put_back { 100 } else { 40 });
    }
}

#[test]
fn a_row_deleted_before_a_migration_that_lowers_the_ids_stays_deleted() {
    let mut story = Story::of(&[V10_3_3, V10_3_3]);
    story.session(0, "c", 5);
    story.sync(&[0, 1]);
    story.delete(0, "DELETE FROM observations WHERE id=5");
    story.world.upgrade(0, V13_25_3, true, true);
    story.sync(&[0, 1, 0, 1]);
    story.ends_with_count("observations", 4);
}

#[test]
fn what_a_migration_rewrites_beats_no_edit_of_a_person() {
    let mut story = Story::of(&[V10_3_3, V10_3_3]);
    story.session(0, "c", 2);
    story.sql(0, "UPDATE observations SET concepts='\u{1f534}:x'");
    story.sync(&[0, 1]);
    story.sql(1, "UPDATE observations SET narrative='PERSON' WHERE id=1");
    story.world.upgrade(0, V13_25_3, false, true);
    story.sync(&[1, 0, 1, 0]);
    story.ends_with("SELECT narrative FROM observations WHERE id=1", &["PERSON"]);
}

/// Twins whose local ids run the other way on the other machine, merged by each machine's migration.
fn merged_twins(order: &[usize]) -> Story {
    let mut story = Story::of(&[V10_3_3, V10_3_3]);
    story.session(0, "c", 0);
    story.sync(&[0, 1]);
    for at in [0, 1] {
        let born = story.next_birth();
        story.observation_called(at, "c", "same", born);
    }
    let twins: Vec<String> = (0..2)
        .map(|at| story.world.machines[at].memory().rows("observations", "1")[0].token.clone())
        .collect();
    for twin in &twins {
        story.world.ledger.titled(&format!("{twin}|0"), "same".to_owned());
    }
    story.sync(&[0, 1, 0, 1]);
    for at in order {
        story.world.upgrade(*at, V13_25_3, false, true);
    }
    story
}

#[test]
fn twins_that_two_migrations_merge_leave_one() {
    for order in [[0, 1], [1, 0]] {
        // Whoever comes second finds the deletion of the twin that stayed there.
        let mut story = merged_twins(&order);
        story.sync(&order);
        story.sync(&order);
        story.ends_with_count("observations", 1);
    }
    // One machine migrates later, when the other's deletions have arrived.
    let mut story = merged_twins(&[0]);
    story.sync(&[0, 1]);
    story.world.upgrade(1, V13_25_3, false, true);
    story.sync(&[1, 0]);
    story.ends_with_count("observations", 1);
}

#[test]
fn the_upgrade_of_the_judge_keeps_every_row() {
    let folder = super::folder();
    let path = folder.path().join("old.db");
    let old = Memory::create(&path, Version::V9_1_1);
    old.db
        .execute_batch(
            "INSERT INTO sdk_sessions(content_session_id, memory_session_id, project, user_prompt, started_at, started_at_epoch, status)
             VALUES('c', 'm', 'p', 's1|0', 'x', 1, 'active');
             INSERT INTO user_prompts(content_session_id, prompt_number, prompt_text, created_at, created_at_epoch)
             VALUES('c', 1, 'p2|1', 'x', 2);",
        )
        .unwrap();
    let image = upgraded(&path, folder.path(), V13_25_3, false);
    let to = folder.path().join("new.db");
    std::fs::write(&to, image).unwrap();
    let new = Memory::open(&to, V13_25_3);
    assert_eq!(new.tokens(), old.tokens());
    assert_eq!(new.shared(Version::V9_1_1), old.shared(Version::V9_1_1));
    assert_eq!(new.unsound(), None);
}

#[test]
fn an_old_file_is_known_for_what_a_first_sync_replaced() {
    let mut story = Story::new(2);
    story.session(1, "c", 1);
    story.sync(&[1, 0]);
    story.world.lose_shadow(0, false);
    story.sql(1, "UPDATE observations SET narrative='NEW'");
    story.sync(&[1]);
    story.world.keep_old_file(0);
    story.sync(&[0]);
    story.world.put_old_file_back(0);
    story.sync(&[0, 1, 0, 1]);
    story.ends_with("SELECT narrative FROM observations", &["NEW"]);
}
