//! Writers that hardly pause, beside fifty pushes and fifty pulls. The longest test there is: tests start in the order of
//! their names, and one that starts last would keep one core waiting.

use crate::common::{assert_whole, titles_anywhere};
use crate::support::claude_mem::{Version, Writer};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// Every row that the writer was told is committed is in the database or in a backup that a report named.
#[test]
fn no_acknowledged_row_is_lost_in_fifty_pulls_and_fifty_pushes() {
    const ROUNDS: usize = 50;
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    let mut beta = Machine::new("beta", &server);
    beta.set("PULL_BACKUP_MAX_COUNT", "1000");
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("pull_sqlite").run().assert_code(0);

    let alphas = Writer::paced(alpha.db_path(), "live-alpha", std::time::Duration::from_millis(20));
    // A breath between two rows: on a slow machine the database would otherwise outgrow the pulls, which copy it.
    let betas = Writer::paced(beta.db_path(), "live-beta", std::time::Duration::from_millis(1));
    let mut named = Vec::new();
    for round in 0..ROUNDS {
        let before = alphas.acknowledged();
        let limit = std::time::Duration::from_mins(3);
        alpha.cmd("push_sqlite").timeout(limit).run().assert_code(0);
        let pulled = beta.cmd("pull_sqlite --json").timeout(limit).run();
        pulled.assert_code(0);
        let report = pulled.json();
        assert_eq!(report["outcome"], "replaced_diverged", "round {round}: {pulled:?}");
        named.push(report["backup"].as_str().unwrap().to_owned());
        assert!(alphas.acknowledged().len() >= before.len());
    }
    let acknowledged = betas.stop();
    let at_alpha = alphas.stop();
    assert!(acknowledged.len() > ROUNDS, "the writer got in between the pulls: {}", acknowledged.len());
    for backup in &named {
        assert!(std::path::Path::new(backup).is_file(), "{backup} was named and is not there");
    }
    assert_whole(&beta.db_path());
    assert_whole(&alpha.db_path());
    let there: std::collections::HashSet<String> = titles_anywhere(&beta).into_iter().collect();
    for title in &acknowledged {
        assert!(there.contains(title), "{title} was acknowledged and is in no copy");
    }
    let there: std::collections::HashSet<String> =
        crate::support::claude_mem::titles(alpha.db_path()).into_iter().collect();
    for title in &at_alpha {
        assert!(there.contains(title), "{title} vanished from the machine that only pushes");
    }
}
