//! `promote` and `demote`: a person says who is primary.

use super::run::Run;
use crate::config::Config;
use crate::error::{Code, CommandResult, Failure};
use crate::leadership::{Handed, Leadership, Promotion};
use crate::outcome::Outcome;
use crate::ui::Report;

/// `promote [NODE]`: without a name, this node.
pub(super) async fn promote(
    run: &Run,
    node: Option<String>,
    seconds: Option<i64>,
    force: bool,
) -> CommandResult<Report> {
    let (config, bucket) = run.open_known().await?;
    let node = match node {
        Some(node) => named(&node)?,
        None => config.node.id.clone(),
    };
    let promotion = Promotion { node, seconds, force, over: None };
    let leadership = Leadership::of(&config, &bucket);
    let handed = Box::pin(leadership.promote(&promotion)).await?;
    announce(run, &config, &handed);
    if let Some(configured) =
        config.leadership.primary.as_ref().filter(|configured| **configured != promotion.node)
    {
        run.ui.warn(format!(
            "PRIMARY_NODE_ID of this machine says {configured}, which takes the lease when it has expired; set it to {} on every machine",
            promotion.node
        ));
    }
    Ok(report(Outcome::Promoted, &handed))
}

/// `demote [NODE]`: NODE becomes primary instead; without it nobody is, until the configured primary comes.
pub(super) async fn demote(run: &Run, node: Option<String>) -> CommandResult<Report> {
    let (config, bucket) = run.open_known().await?;
    let node = node.as_deref().map(named).transpose()?;
    let leadership = Leadership::of(&config, &bucket);
    let handed = Box::pin(leadership.demote(node.as_deref())).await?;
    announce(run, &config, &handed);
    if node.is_none() {
        run.ui.line(match &config.leadership.primary {
            Some(configured) => format!("{configured} (PRIMARY_NODE_ID) becomes primary with its next command"),
            None => "a node whose PRIMARY_NODE_ID names itself becomes primary with its next command; otherwise: membridge promote NODE".to_owned(),
        });
    }
    Ok(report(Outcome::Demoted, &handed))
}

fn named(node: &str) -> CommandResult<String> {
    match node.trim() {
        "" => Err(Failure::of(Code::Usage, "the node's name is empty")
            .hint("see the names: membridge leadership_info")),
        node => Ok(node.to_owned()),
    }
}

fn announce(run: &Run, config: &Config, handed: &Handed) {
    let ui = &run.ui;
    let before = handed.before.as_ref().map_or("nobody", |lease| lease.primary_label());
    let now = &handed.now;
    ui.line(format!("primary: {} (was: {before})", now.primary_label()));
    ui.line(format!("epoch: {}", now.epoch));
    if let (Ok(at), true) = (jiff::Timestamp::from_second(now.expires_at), now.lease_seconds > 0) {
        let at = run.context.clock().local(at);
        ui.line(format!("expires_at: {at} (in {}s)", now.lease_seconds));
    }
    if !config.leadership.enabled {
        ui.warn("LEADERSHIP_ENABLED=0 on this machine: it does not ask who is primary");
    }
}

fn report(outcome: Outcome, handed: &Handed) -> Report {
    let before = handed.before.as_ref().map(|lease| lease.primary_node_id.as_str());
    Report::ok(outcome)
        .with("primary", handed.now.primary_node_id.as_str())
        .with("was", before)
        .with("epoch", handed.now.epoch)
        .with("lease_seconds", handed.now.lease_seconds)
}
