//! `doctor`: everything that could be wrong, and what to type about it. Changes nothing, needs no configuration.

use super::run::Run;
use crate::cli::DoctorArgs;
use crate::doctor::evidence;
use crate::doctor::finding::Level;
use crate::doctor::page::{self, Line};
use crate::doctor::questions::Scope;
use crate::doctor::{self, Checked, Status};
use crate::error::CommandResult;
use crate::exit::ExitCode;
use crate::outcome::Outcome;
use crate::ui::{Report, Tone, Ui};

pub(super) async fn run(run: &Run, args: DoctorArgs) -> CommandResult<Report> {
    let scope = Scope { no_network: args.no_network, probe: args.probe };
    let evidence =
        evidence::gather(run.settings.clone(), run.file_problem.clone(), &run.context, scope).await;
    let checked = doctor::examine(&evidence);
    let status = Status::of(&checked);
    show(&run.ui, &page::lines(&checked, run.verbose));
    run.ui.toned(status_tone(status), &status.line(), "");
    let mut report = Report::ok(Outcome::Checked)
        .with("status", status.word())
        .with("checks", checked.iter().map(Checked::to_json).collect::<Vec<_>>());
    if args.strict && status != Status::Ok {
        report.exit = ExitCode::Error;
    }
    Ok(report)
}

fn show(ui: &Ui, lines: &[Line]) {
    for line in lines {
        match line {
            Line::Heading(text) => ui.line(text),
            Line::Remedy(text) => ui.line(format!("           → {text}")),
            Line::Gap => ui.line(""),
            Line::Found(level, text) => {
                let (label, tone) = match level {
                    Level::Ok => ("  ok       ", Tone::Good),
                    Level::Info => ("  info     ", Tone::Plain),
                    Level::Warning => ("  WARNING  ", Tone::Caution),
                    Level::Error => ("  ERROR    ", Tone::Bad),
                    Level::Skipped => ("  skipped  ", Tone::Faint),
                };
                ui.toned(tone, label, text);
            }
        }
    }
}

fn status_tone(status: Status) -> Tone {
    match status {
        Status::Ok => Tone::Good,
        Status::Degraded(_) => Tone::Caution,
        Status::Error => Tone::Bad,
    }
}
