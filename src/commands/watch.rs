//! `watch`: a foreground process that pushes after changes and pulls what others pushed, until it is told to end.
//! Each push and pull is the ordinary command in a process of its own, so memory stays flat for months.

use std::future::Future;
use std::time::{Duration, Instant};

use super::run::Run;
use crate::cli::WatchOptions;
use crate::config::Config;
use crate::error::{Code, CommandResult, Failure};
use crate::jobs::command;
use crate::jobs::detached::push_interval;
use crate::jobs::queue::Queue;
use crate::jobs::{End, Job};
use crate::outcome::Outcome;
use crate::ui::{Report, clean};
use crate::watch::{Pace, Step, Trace, Watch};

/// Between two looks at the file's size and time. Change notifications do not come through on the network file
/// systems that people keep homes on, and one look costs microseconds.
const LOOK: Duration = Duration::from_secs(2);

pub(super) async fn run(run: &Run, options: WatchOptions) -> CommandResult<Report> {
    let config = Config::new(&run.settings)?;
    let between_pushes = push_interval(&run.settings)?;
    let queue = Queue::of(&config.paths.state, &config.database.display().to_string(), between_pushes)
        .map_err(|error| {
            Failure::of(Code::LocalFile, format!("cannot use {}: {error}", config.paths.state.display()))
        })?;
    // SIGTERM is a wish here, not an accident: the command that runs ends first, and we end with 0.
    let _critical = run.context.critical();
    let mut watch = Watch::new(Pace {
        settle: Duration::from_secs(options.settle),
        between_pushes,
        between_pulls: Duration::from_secs(options.every),
    });
    let start = Instant::now();
    run.ui.line(format!("watching {}", config.database.display()));
    loop {
        let trace = Trace::of(&config.database);
        match watch.step(start.elapsed(), trace.clone()) {
            Step::Wait(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time.min(LOOK)) => {}
                    _ = run.context.interrupted() => break,
                }
            }
            Step::Pull => {
                let Some(end) = alone(run, &queue, Job::Pull).await else {
                    break;
                };
                watch.pulled(start.elapsed(), end.is_settled());
                report(run, "pull", &end);
            }
            Step::Push => {
                let Some(end) = alone(run, &queue, Job::Push).await else {
                    break;
                };
                watch.pushed(start.elapsed(), trace, end.is_settled());
                report(run, "push", &end);
            }
        }
    }
    run.ui.line("stopped");
    Ok(Report::ok(Outcome::Stopped))
}

/// Runs one job when no hook's runs; `None`: we were told to end.
async fn alone(run: &Run, queue: &Queue, job: Job) -> Option<End> {
    let told = async {
        run.context.interrupted().await;
    };
    tokio::pin!(told);
    let turn = tokio::select! {
        turn = queue.alone() => turn,
        () = &mut told => return None,
    };
    let done = match turn {
        Ok(_turn) => ended(command::run(job, told), run).await?,
        Err(error) => Err(error),
    };
    Some(done.unwrap_or_else(|error| End::without(Outcome::Failed, error.to_string())))
}

async fn ended(work: impl Future<Output = std::io::Result<End>>, run: &Run) -> Option<std::io::Result<End>> {
    let end = work.await;
    // The command heard of the signal through us and gave back what it held.
    (!run.context.was_interrupted()).then_some(end)
}

fn report(run: &Run, what: &str, end: &End) {
    if let Some(line) = line(what, end) {
        run.ui.line(format!("{:.0} {line}", run.context.now()));
    }
}

/// What there is to say about a command that has ended; `None` when it had nothing to do, as at most looks.
fn line(what: &str, end: &End) -> Option<String> {
    if end.outcome.is_idle() {
        return None;
    }
    let head = format!("{what} {}", end.outcome);
    let message = clean(&end.message);
    // A refusal begins with these words itself.
    Some(match message.as_str() {
        "" => head,
        message if message.starts_with(&head) => message.to_owned(),
        message => format!("{head}: {message}"),
    })
}

#[cfg(test)]
mod tests {
    use super::{End, Outcome, line};

    #[test]
    fn a_look_that_finds_nothing_to_do_says_nothing_and_nothing_is_said_twice() {
        let table = [
            ("pull", Outcome::UpToDate, "", None),
            ("pull", Outcome::LocalAhead, "", None),
            ("push", Outcome::RemoteAhead, "", None),
            ("pull", Outcome::Pulled, "", Some("pull pulled")),
            ("push", Outcome::Failed, "no disk", Some("push failed: no disk")),
            ("push", Outcome::Refused, "push refused: secondary", Some("push refused: secondary")),
        ];
        for (what, outcome, message, said) in table {
            let end = End { outcome, code: None, message: message.to_owned() };
            assert_eq!(line(what, &end).as_deref(), said, "{what} {outcome}");
        }
    }
}
