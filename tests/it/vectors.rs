//! claude-mem's search finds rows that came from elsewhere: while its worker is stopped, its note of what its vector store
//! holds is told of them.

use serde_json::{Value, json};

use crate::common::with_memory;
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// As the rows of support/claude_mem name it.
const PROJECT: &str = "mem";
const NOTE: &str = ".claude-mem/chroma-sync-state.json";

/// Beta with a claude-mem of that version, two observations of its own, and a vector store that knows the ids up to 100.
fn beta(server: &S3Server, version: &str) -> Machine {
    let beta = Machine::new("beta", server);
    beta.create_db(Version::V13_25_3).add_session("of beta").add_observations(2);
    beta.write(&format!(".claude/plugins/cache/thedotmack/claude-mem/{version}/package.json"), "{}");
    let known = json!({PROJECT: {"observations": 100, "summaries": 100, "prompts": 100}, "other": {"observations": 7}});
    beta.write(NOTE, known.to_string());
    beta
}

fn note(machine: &Machine) -> Value {
    serde_json::from_slice(&std::fs::read(machine.path(NOTE)).unwrap()).unwrap()
}

#[test]
fn what_arrives_below_the_last_embedded_id_is_embedded_at_the_next_start() {
    for version in ["13.25.3", "13.12.0", "12.4.9"] {
        let server = S3Server::start();
        let alpha = Machine::new("alpha", &server);
        with_memory(&alpha);
        alpha.cmd("sync").run().assert_code(0);
        let beta = beta(&server, version);
        let before = note(&beta);
        beta.cmd("sync").run().assert_code(0);
        let ids = claude_mem::dump(beta.db_path(), "SELECT count(*) FROM observations WHERE id > 2");
        assert!(ids[0].contains('5'), "{ids:?}");
        let after = note(&beta);
        assert_eq!(after["other"], before["other"], "{version}");
        let own = &after[PROJECT];
        match version {
            "13.25.3" => {
                assert_eq!(own["pending"]["observations"], json!([3, 4, 5, 6, 7]), "{after}");
                assert_eq!(own["pending"]["summaries"], json!([1]), "{after}");
                assert_eq!(own["observations"], 100, "{after}");
            }
            "13.12.0" => {
                assert_eq!((&own["observations"], &own["summaries"]), (&json!(2), &json!(0)), "{after}");
            }
            _ => assert_eq!(after, before),
        }
        // Told once.
        beta.cmd("sync").run().assert_code(0);
        assert_eq!(note(&beta), after, "{version}");
        assert!(!beta.path(".claude-mem/spawn.lock").exists());
    }
}
