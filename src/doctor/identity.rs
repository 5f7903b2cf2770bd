//! Which project, and who this machine is.

use super::evidence::Evidence;
use super::finding::{Check, Finding};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "project",
        run: project,
        remedy: "set CLAUDE_PROJECT_ID, the same on all machines: membridge config init",
    },
    Check {
        name: "canonical_id",
        run: canonical_id,
        remedy: "set CLAUDE_PROJECT_ID, the same on all machines: membridge config init",
    },
    Check {
        name: "pinned_id",
        run: pinned_id,
        remedy: "unset CLAUDE_CANONICAL_PROJECT_ID once its memory is found",
    },
    Check {
        name: "node",
        run: node,
        remedy: "set MEMBRIDGE_HOSTNAME to the node's name too, or unset MEMBRIDGE_NODE_ID",
    },
    Check { name: "renamed", run: renamed, remedy: "membridge rename-project NEW" },
];

fn renamed(evidence: &Evidence) -> Finding {
    match (&evidence.renamed, &evidence.project) {
        (Some(renamed), Some(project)) => {
            Finding::warning(format!("renamed: {}", renamed.describe(&project.name)))
                .remedy(renamed.remedy(&project.name))
        }
        _ => Finding::ok("renamed: the project is called as it was"),
    }
}

fn project(evidence: &Evidence) -> Finding {
    match &evidence.project {
        Some(project) => Finding::ok(format!("project_name: {}", project.name)),
        None => Finding::error("project_name: CLAUDE_PROJECT_ID not set"),
    }
}

fn canonical_id(evidence: &Evidence) -> Finding {
    let Some(project) = &evidence.project else {
        return Finding::skipped("canonical_project_id: no project");
    };
    let line = format!("canonical_project_id: {}", project.cid);
    // F05: memory that lies under another id looks like no memory at all.
    match evidence.bucket.others.got().map(Vec::as_slice) {
        None | Some([]) => Finding::ok(line),
        Some(others) => Finding::warning(format!(
            "{line}; the bucket holds no database under it, but one under {}",
            others.join(", ")
        ))
        .remedy(
            "check the spelling of CLAUDE_PROJECT_ID against your other machines: membridge print_project",
        ),
    }
}

fn pinned_id(evidence: &Evidence) -> Finding {
    let pinned = evidence.settings.get("CLAUDE_CANONICAL_PROJECT_ID");
    match (pinned, &evidence.project) {
        (None, _) => Finding::ok("pinned id: none"),
        (Some(pinned), Some(project)) if pinned == project.cid => {
            Finding::ok("pinned id: CLAUDE_CANONICAL_PROJECT_ID agrees with the project's name")
        }
        (Some(pinned), Some(project)) => Finding::warning(format!(
            "pinned id: CLAUDE_CANONICAL_PROJECT_ID={pinned} is ignored, this project's id is {}; old memory may lie under projects/{pinned}/",
            project.cid
        )),
        (Some(pinned), None) => Finding::warning(format!(
            "pinned id: CLAUDE_CANONICAL_PROJECT_ID={pinned} is ignored, the id follows from CLAUDE_PROJECT_ID"
        )),
    }
}

/// F26: locks carry the host name, leases the node id.
fn node(evidence: &Evidence) -> Finding {
    let Some(node) = &evidence.node else {
        return Finding::error("node_id: the system's host name cannot be read")
            .remedy("set MEMBRIDGE_HOSTNAME");
    };
    if node.id == node.host {
        return Finding::ok(format!("node_id: {}", node.id));
    }
    Finding::warning(format!(
        "node_id: {} for leadership, but {} in locks, manifests and backups",
        node.id, node.host
    ))
}
