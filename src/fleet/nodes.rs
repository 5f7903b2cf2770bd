//! The nodes of a project as the server shows them: what they said in beats and what they wrote into the bucket, with
//! the role that the lease gives them. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::beats::Beat;
use super::survey::Note;
use crate::leadership::LeaseRecord;

/// A node.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct NodeView {
    /// Its name.
    pub node_id: String,
    /// The project.
    pub canonical_id: String,
    /// `primary`, `secondary` or `unknown`.
    pub role: &'static str,
    /// How many observations it has.
    pub obs_count: Option<i64>,
    /// Digest of its memory.
    pub db_sha: Option<String>,
    /// Seconds since 1970.
    pub last_seen: f64,
    /// Its addresses.
    pub ip_addrs: Vec<String>,
    /// Seconds since 1970.
    pub registered_at: f64,
    /// The project's name.
    pub project_id: Option<String>,
    /// When this server heard a beat of it; `None`: known from the bucket only.
    pub heard_at: Option<f64>,
    /// The version of its agent.
    pub agent_version: Option<String>,
    /// What it wrote into the bucket.
    pub record: Option<Note>,
}

/// The role that a lease gives a node.
pub fn role(lease: Option<&LeaseRecord>, node: &str) -> &'static str {
    match lease {
        None => "unknown",
        // Somebody was demoted, and nobody has come since.
        Some(lease) if lease.primary_node_id.is_empty() => "unknown",
        Some(lease) if lease.primary_node_id == node => "primary",
        Some(_) => "secondary",
    }
}

/// All nodes of a project: those of the beats in their order, then those of the bucket alone.
pub fn merge(cid: &str, beats: Vec<Beat>, notes: &[Note], lease: Option<&LeaseRecord>) -> Vec<NodeView> {
    let mut newest: BTreeMap<&str, &Note> = BTreeMap::new();
    for note in notes {
        // An installation anew is another writer of the same name: the later one speaks.
        let place = newest.entry(note.node_id.as_str()).or_insert(note);
        if note.at > place.at {
            *place = note;
        }
    }
    let mut views: Vec<NodeView> = beats
        .into_iter()
        .map(|beat| {
            let note = newest.remove(beat.node_id.as_str());
            heard(beat, note, lease)
        })
        .collect();
    views.extend(newest.into_values().map(|note| noted(cid, note, lease)));
    views
}

fn heard(beat: Beat, note: Option<&Note>, lease: Option<&LeaseRecord>) -> NodeView {
    let noted = note.map_or(0.0, |note| note.at);
    NodeView {
        role: role(lease, &beat.node_id),
        obs_count: beat.obs_count.or_else(|| note.and_then(|note| note.observations)),
        db_sha: beat.db_sha,
        last_seen: if beat.heard_at < noted { noted } else { beat.last_seen },
        ip_addrs: beat.ip_addrs,
        registered_at: beat.registered_at,
        project_id: beat.project_id,
        heard_at: Some(beat.heard_at),
        agent_version: beat.agent_version,
        record: note.cloned(),
        node_id: beat.node_id,
        canonical_id: beat.canonical_id,
    }
}

fn noted(cid: &str, note: &Note, lease: Option<&LeaseRecord>) -> NodeView {
    NodeView {
        node_id: note.node_id.clone(),
        canonical_id: cid.to_owned(),
        role: role(lease, &note.node_id),
        obs_count: note.observations,
        last_seen: note.at,
        registered_at: note.at,
        record: Some(note.clone()),
        ..NodeView::default()
    }
}

/// What a person should know before, or after, making `node` primary.
pub fn doubts(node: &str, nodes: &[NodeView]) -> Vec<String> {
    let mut doubts = Vec::new();
    if nodes.iter().all(|known| known.node_id != node) {
        doubts.push(format!("no machine called {node} has been seen in this project"));
    }
    for known in nodes.iter().filter(|known| known.node_id != node) {
        let configured = known.record.as_ref().and_then(|record| record.configured_primary.as_deref());
        if configured == Some(known.node_id.as_str()) {
            doubts.push(format!(
                "{0} has PRIMARY_NODE_ID={0} and takes the role back when the lease expires",
                known.node_id
            ));
        }
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::{doubts, merge, role};
    use crate::fleet::beats::Beat;
    use crate::fleet::survey::Note;
    use crate::leadership::LeaseRecord;

    fn lease(primary: &str) -> LeaseRecord {
        serde_json::from_value(serde_json::json!({
            "primary_node_id": primary, "issued_at": 1, "expires_at": 2, "lease_seconds": 1, "epoch": 3,
        }))
        .unwrap()
    }

    fn note(node: &str, at: f64) -> Note {
        Note { node_id: node.to_owned(), at, observations: Some(7), ..Note::default() }
    }

    fn beat(node: &str, at: f64) -> Beat {
        Beat { node_id: node.to_owned(), last_seen: at, heard_at: at, registered_at: at, ..Beat::default() }
    }

    #[test]
    fn a_role_is_what_the_lease_says() {
        let desk = lease("desk");
        let nobody = lease("");
        let table = [
            (None, "desk", "unknown"),
            (Some(&desk), "desk", "primary"),
            (Some(&desk), "pi", "secondary"),
            (Some(&nobody), "pi", "unknown"),
        ];
        for (lease, node, expected) in table {
            assert_eq!(role(lease, node), expected, "{node}");
        }
    }

    #[test]
    fn beats_and_records_of_one_node_become_one_line() {
        let noted = [note("pi", 10.0), note("desk", 50.0), note("desk", 20.0)];
        let lease = lease("desk");
        let nodes = merge("ab", vec![beat("desk", 40.0), beat("new", 41.0)], &noted, Some(&lease));
        let lines: Vec<_> = nodes
            .iter()
            .map(|node| (node.node_id.as_str(), node.role, node.last_seen, node.heard_at))
            .collect();
        let expected = [
            ("desk", "primary", 50.0, Some(40.0)),
            ("new", "secondary", 41.0, Some(41.0)),
            ("pi", "secondary", 10.0, None),
        ];
        assert_eq!(lines, expected);
        assert_eq!((nodes[0].obs_count, nodes[1].obs_count, nodes[2].obs_count), (Some(7), None, Some(7)));
    }

    #[test]
    fn doubts_are_told() {
        let mut stubborn = note("pi", 1.0);
        stubborn.configured_primary = Some("pi".to_owned());
        let nodes = merge("ab", Vec::new(), &[stubborn, note("desk", 1.0)], None);
        assert_eq!(doubts("pi", &nodes), [""; 0]);
        assert_eq!(doubts("desk", &nodes).len(), 1);
        assert_eq!(doubts("nobody", &nodes).len(), 2);
    }
}
