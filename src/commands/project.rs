//! `print_project`: the project's name and the id its objects live under.

use super::run::Run;
use crate::config;
use crate::error::CommandResult;
use crate::outcome::Outcome;
use crate::ui::Report;

pub(super) fn run(run: &Run) -> CommandResult<Report> {
    let project = config::project(&run.settings)?;
    run.ui.line(format!("project_name: {}", project.name));
    run.ui.line(format!("canonical_project_id: {}", project.cid));
    Ok(Report::ok(Outcome::Shown)
        .with("project_name", project.name)
        .with("canonical_project_id", project.cid))
}
