//! `leadership_info`: who is primary, until when, and what that makes this node. Changes nothing.

use super::run::Run;
use crate::error::CommandResult;
use crate::leadership::Leadership;
use crate::outcome::Outcome;
use crate::storage::records;
use crate::ui::Report;

pub(super) async fn run(run: &Run) -> CommandResult<Report> {
    let (config, bucket) = run.open()?;
    let leadership = Leadership::of(&config, &bucket);
    let standing = leadership.look().await?;
    let ui = &run.ui;
    ui.line(format!("project_name: {}", config.project.name));
    ui.line(format!("canonical_project_id: {}", config.project.cid));
    ui.line(format!("node_id: {}", config.node.id));
    let enabled = config.leadership.enabled;
    let role = if enabled { standing.role.to_string() } else { "off (LEADERSHIP_ENABLED=0)".to_owned() };
    ui.line(format!("role: {role}"));
    let report = Report::ok(Outcome::Shown)
        .with("node_id", config.node.id.clone())
        .with("role", if enabled { standing.role.to_string() } else { "off".to_owned() });
    let Some(lease) = standing.lease else {
        ui.line("primary: nobody yet (the first push makes a lease)");
        return Ok(report.with("lease", serde_json::Value::Null));
    };
    let left = lease.expires_at.saturating_sub(run.context.server_now().as_second());
    ui.line(format!("primary: {}", lease.primary_label()));
    ui.line(format!("epoch: {}", lease.epoch));
    match jiff::Timestamp::from_second(lease.expires_at) {
        Ok(at) if left > 0 => ui.line(format!("expires_at: {} (in {left}s)", records::iso(at))),
        Ok(at) => {
            ui.line(format!("expires_at: {} (expired {}s ago)", records::iso(at), left.saturating_neg()));
        }
        Err(_) => ui.line(format!("expires_at: {}", lease.expires_at)),
    }
    ui.line(format!("issued_by: {}", lease.issued_by));
    if lease.needs_ui_selection {
        ui.line("needs_ui_selection: true (nobody has chosen this primary: membridge promote NODE)");
    }
    let value = serde_json::to_value(&lease).unwrap_or_default();
    Ok(report.with("lease", value).with("expires_in", left))
}
