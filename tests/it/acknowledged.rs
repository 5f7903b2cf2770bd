//! Writers that hardly pause, beside fifty pushes and fifty pulls. The longest test there is: tests start in the order of
//! their names, and one that starts last would keep one core waiting.

use crate::common::assert_whole;
use crate::support::claude_mem::{self, Version, Writer};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// Every row that either writer was told is committed is on both machines in the end, however often rows arrived beside it.
#[test]
fn no_acknowledged_row_is_lost_in_fifty_pulls_and_fifty_pushes() {
    const ROUNDS: usize = 50;
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    let beta = Machine::new("beta", &server);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("pull_sqlite").run().assert_code(0);

    let pace = std::time::Duration::from_millis(20);
    let alphas = Writer::paced(alpha.db_path(), "live-alpha", pace);
    let betas = Writer::paced(beta.db_path(), "live-beta", pace);
    let limit = std::time::Duration::from_mins(3);
    for round in 0..ROUNDS {
        for writer in [&alphas, &betas] {
            writer.allow(25);
        }
        alpha.cmd("push_sqlite").timeout(limit).run().assert_code(0);
        let pulled = beta.cmd("pull_sqlite --json").timeout(limit).run();
        pulled.assert_code(0);
        assert_eq!(pulled.json()["outcome"], "pulled", "round {round}: {pulled:?}");
    }
    let mut acknowledged = betas.stop();
    assert!(acknowledged.len() > ROUNDS, "the writer got in between the pulls: {}", acknowledged.len());
    acknowledged.extend(alphas.stop());
    for machine in [&beta, &alpha, &beta] {
        machine.cmd("sync").timeout(limit).run().assert_code(0);
    }
    for machine in [&alpha, &beta] {
        assert_whole(&machine.db_path());
        let there: std::collections::HashSet<String> =
            claude_mem::titles(machine.db_path()).into_iter().collect();
        for title in &acknowledged {
            assert!(there.contains(title), "{title} was acknowledged and is not on {}", machine.name);
        }
    }
}
