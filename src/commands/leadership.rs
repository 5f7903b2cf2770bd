//! `leadership_info`: who is primary, until when, and what that makes this node. Changes nothing.

use super::run::Run;
use crate::error::CommandResult;
use crate::leadership::Leadership;
use crate::outcome::Outcome;
use crate::ui::Report;

pub(super) async fn run(run: &Run) -> CommandResult<Report> {
    let (config, bucket) = run.open_to_rehearse().await?;
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
    // The first to come is it until somebody chooses.
    let chosen =
        if lease.needs_ui_selection { ", by default (to choose: membridge promote NODE)" } else { "" };
    ui.line(format!("primary: {}{chosen}", lease.primary_label()));
    ui.line(format!("epoch: {}", lease.epoch));
    let clock = run.context.clock();
    match jiff::Timestamp::from_second(lease.expires_at) {
        Ok(at) if left > 0 => ui.line(format!("expires_at: {} (in {left}s)", clock.local(at))),
        Ok(at) => ui.line(format!("expires_at: {} (expired {})", clock.local(at), clock.ago(at))),
        Err(_) => ui.line(format!("expires_at: {}", lease.expires_at)),
    }
    ui.line(format!("issued_by: {}", lease.issued_by));
    if lease.needs_ui_selection && run.verbose {
        ui.line("needs_ui_selection: true");
    }
    let value = serde_json::to_value(&lease).unwrap_or_default();
    Ok(report.with("lease", value).with("expires_in", left))
}
