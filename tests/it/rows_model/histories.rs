//! The histories that killed an earlier rule, each as short as it can be told. rows.md names them in brackets. Those that
//! need another file or another release are in `histories_files`.

use super::story::Story;
use crate::support::claude_mem::Version::{V10_3_3, V13_25_3};

const DAY: i64 = 86_400_000;

/// Lives a history with a crash at each failpoint in turn; it ends where there is none left.
fn at_each_crash(mut history: impl FnMut(u64) -> bool) {
    let crashes = (0..200).take_while(|after| history(*after)).count();
    assert!((3..200).contains(&crashes), "{crashes} failpoints");
}

#[test]
fn a_column_that_is_cleared_is_cleared_everywhere() {
    let mut story = Story::new(2);
    story.session(0, "c", 1);
    story.sql(
        0,
        "UPDATE sdk_sessions SET status='completed', completed_at='y'; UPDATE observations SET subtitle='s'",
    );
    story.sync(&[0, 1]);
    story.sql(
        0,
        "UPDATE sdk_sessions SET status='active', completed_at=NULL; UPDATE observations SET subtitle=NULL",
    );
    story.sync(&[0, 1]);
    story.ends_with(
        "SELECT status || coalesce(completed_at, '-') || (SELECT coalesce(subtitle, '-') FROM observations) FROM sdk_sessions",
        &["active--"],
    );
}

#[test]
fn a_manual_session_whose_platform_flips_is_the_same_session() {
    let mut story = Story::new(2);
    story.session(0, "manual-content-x", 2);
    story.sync(&[0, 1]);
    story.observation(1, "manual-content-x");
    story.sql(0, "UPDATE sdk_sessions SET platform_source='cursor'");
    story.sync(&[0, 1, 0, 1]);
    story.ends_with(
        "SELECT count(*) || '/' || (SELECT count(*) FROM observations) FROM sdk_sessions",
        &["1/3"],
    );
}

#[test]
fn a_row_recorded_in_a_session_that_is_deleted_meanwhile_survives_with_it() {
    let mut story = Story::new(2);
    story.session(0, "c", 2);
    story.sync(&[0, 1]);
    story.delete(0, "DELETE FROM sdk_sessions");
    story.observation(1, "c");
    story.sync(&[0, 1, 0, 1, 0]);
    story.ends_with(
        "SELECT count(*) || '/' || (SELECT count(*) FROM observations) FROM sdk_sessions",
        &["1/1"],
    );
}

#[test]
fn an_edit_that_was_published_before_a_crash_is_not_made_again() {
    at_each_crash(|after| {
        let mut story = Story::new(2);
        story.session(0, "c", 1);
        story.sync(&[0, 1]);
        story.sql(0, "UPDATE observations SET narrative='A1'");
        let died = story.crash(0, after);
        story.sync(&[1]);
        let seen = story.values("SELECT narrative FROM observations").remove(1);
        story.sql(1, "UPDATE observations SET narrative='B2'");
        story.sync(&[1, 0, 1, 0, 1]);
        let narrative = "SELECT narrative FROM observations";
        // Where B never saw A's edit the later stamp wins, whichever it is.
        let last = if seen == ["A1"] { "B2".to_owned() } else { story.values(narrative)[0][0].clone() };
        story.ends_with(narrative, &[&last]);
        died
    });
}

#[test]
fn content_that_had_arrived_before_a_crash_is_no_edit() {
    at_each_crash(|after| {
        let mut story = Story::new(3);
        story.session(0, "c", 1);
        story.sync(&[0, 1, 2]);
        story.sql(0, "UPDATE observations SET narrative='A1'");
        story.sync(&[0]);
        let died = story.crash(1, after);
        story.sql(0, "UPDATE observations SET narrative='A2'");
        story.sync(&[0]);
        story.fold(0);
        story.sync(&[1, 0, 2, 1, 0, 2]);
        story.ends_with("SELECT narrative FROM observations", &["A2"]);
        died
    });
}

#[test]
fn a_key_column_that_an_older_release_lacks_is_left_out_when_its_shadow_is_lost() {
    let mut story = Story::of(&[V13_25_3, V10_3_3]);
    story.session_on(0, "c", "cursor");
    story.observation(0, "c");
    story.observation(0, "c");
    story.sync(&[0, 1]);
    story.world.lose_shadow(1, true);
    story.sync(&[1, 0, 1, 0]);
    story.ends_with(
        "SELECT count(*) || '/' || (SELECT count(*) FROM observations) FROM sdk_sessions",
        &["1/2"],
    );
}

#[test]
fn rows_of_one_title_and_narrative_do_not_lose_each_other_by_their_hash() {
    let mut story = Story::of(&[V10_3_3, V13_25_3]);
    story.session(0, "c", 0);
    for _ in 0..2 {
        let born = story.next_birth();
        story.observation_called(0, "c", "same", born);
    }
    story.sync(&[0, 1, 0, 1]);
    story.ends_with_count("observations", 2);
}

#[test]
fn a_row_that_comes_before_its_session_waits_for_it() {
    // The writers' folders are listed in both orders over some seeds of the machines' chance.
    for turn in 0..4 {
        let mut story = Story::new(3);
        membridge::failpoint::script::set_chance(Some(turn));
        story.session(2, "z", 0);
        story.sync(&[2]);
        story.session(0, "c", 0);
        story.sync(&[0, 1]);
        story.observation(1, "c");
        story.sync(&[1, 2]);
        let here = "SELECT count(*) || '/' || (SELECT count(*) FROM observations) FROM sdk_sessions";
        assert_eq!(story.values(here)[2], ["2/1"], "turn {turn}");
        story.ends_with(here, &["2/1"]);
    }
}

#[test]
fn a_clock_that_was_far_ahead_for_one_sync_cuts_nobody_off() {
    let mut story = Story::new(2);
    story.session(0, "c", 1);
    story.sync(&[0, 1]);
    story.world.tick(400 * DAY);
    story.observation(0, "c");
    story.sync(&[0]);
    story.world.tick(-400 * DAY);
    story.observation(0, "c");
    story.sync(&[0, 1, 0, 1]);
    story.ends_with_count("observations", 3);
}

#[test]
fn an_edit_of_a_row_from_the_future_wins() {
    let mut story = Story::new(2);
    story.session(0, "c", 1);
    story.world.tick(400 * DAY);
    story.sync(&[0, 1]);
    story.world.tick(-400 * DAY);
    story.sql(1, "UPDATE observations SET narrative='B'");
    story.sync(&[1, 0]);
    story.ends_with("SELECT narrative FROM observations", &["B"]);
}

#[test]
fn a_title_and_a_narrative_edited_at_once_are_one_row() {
    let mut story = Story::new(2);
    story.session(0, "c", 1);
    story.sync(&[0, 1]);
    story.sql(1, "UPDATE observations SET title='X'");
    story.sql(0, "UPDATE observations SET narrative='N'");
    story.sync(&[1, 0, 1, 0]);
    story.ends_with_count("observations", 1);
}

#[test]
fn two_rows_with_one_key_stay_two_when_the_shadow_is_lost() {
    let mut story = Story::new(2);
    story.session(0, "c", 0);
    story.observation_called(0, "c", "t", 77);
    story.sync(&[0, 1]);
    story.observation_called(0, "c", "t", 77);
    story.sync(&[0, 1]);
    story.world.lose_shadow(0, false);
    story.sync(&[0, 1, 0, 1]);
    story.ends_with_count("observations", 2);
}

#[test]
fn two_machines_with_one_copied_state_are_two() {
    let mut story = Story::new(2);
    story.session(0, "c", 1);
    story.sync(&[0, 1]);
    story.world.clone_machine(0);
    // Both write their next segment under one number, in one millisecond.
    story.observation(0, "c");
    story.observation(2, "c");
    story.sql(0, "UPDATE observations SET narrative='A' WHERE id=1");
    story.sql(2, "UPDATE observations SET narrative='C' WHERE id=1");
    story.sync(&[0]);
    story.world.tick(-1000);
    story.sync(&[2]);
    story.sync(&[1, 0, 2]);
    story.ends_with_count("observations", 3);
}

#[test]
fn a_workers_status_does_not_beat_an_edit() {
    let mut story = Story::new(2);
    story.session(0, "c", 0);
    story.sync(&[0, 1]);
    story.sql(1, "UPDATE sdk_sessions SET project='edited'");
    story.sync(&[1]);
    story.sql(0, "UPDATE sdk_sessions SET status='completed', completed_at='y'");
    story.sync(&[0, 1, 0]);
    story.ends_with("SELECT project || status FROM sdk_sessions", &["editedcompleted"]);
}

#[test]
fn half_an_emoji_travels_as_it_is() {
    let mut story = Story::of(&[V13_25_3, V10_3_3]);
    story.session(0, "c", 1);
    story.sql(0, "UPDATE observations SET narrative=CAST(x'61eda0bd62' AS TEXT)");
    story.sync(&[0, 1]);
    story.ends_with("SELECT hex(narrative) || typeof(narrative) FROM observations", &["61EDA0BD62text"]);
}

#[test]
fn what_claude_mem_watches_itself_with_never_travels() {
    let mut story = Story::new(2);
    story.session(0, "c", 1);
    story.session(0, "own", 2);
    story.sql(0, "UPDATE sdk_sessions SET project='observer-sessions' WHERE content_session_id='own'");
    story.sync(&[0, 1, 0, 1]);
    let count = "SELECT count(*) || '/' || (SELECT count(*) FROM observations) FROM sdk_sessions";
    assert_eq!(story.values(count), [["2/3"], ["1/1"]]);
}

#[test]
fn what_a_first_sync_filled_in_before_a_crash_beats_no_edit() {
    at_each_crash(|after| {
        let mut story = Story::new(2);
        story.session(0, "c", 1);
        story.sync(&[0, 1]);
        story.world.lose_shadow(0, true);
        story.sql(0, "UPDATE observations SET subtitle='ours'");
        story.sql(1, "UPDATE observations SET narrative='B1'");
        story.sync(&[1]);
        let died = story.crash(0, after);
        story.sql(1, "UPDATE observations SET narrative='B2'");
        story.sync(&[1, 0, 1, 0]);
        story.ends_with("SELECT narrative FROM observations", &["B2"]);
        died
    });
}
