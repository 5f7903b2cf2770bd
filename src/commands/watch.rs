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
                let Some(end) = alone(run, &queue, Job::Whole).await else {
                    break;
                };
                watch.pulled(start.elapsed(), end.is_settled());
                report(run, &end);
            }
            Step::Push => {
                let Some(end) = alone(run, &queue, Job::Whole).await else {
                    break;
                };
                watch.pushed(start.elapsed(), trace, end.is_settled());
                report(run, &end);
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

fn report(run: &Run, end: &End) {
    if let Some(line) = line(end) {
        let now = run.context.now().to_zoned(run.context.clock().zone().clone());
        run.ui.line(format!("{} {line}", now.strftime("%Y-%m-%d %H:%M:%S")));
    }
}

/// What there is to say about a sync that has ended; `None` when it had nothing to do, as at most looks.
fn line(end: &End) -> Option<String> {
    let message = clean(&end.message);
    let parts = match end.code {
        Some(0) => [end.moved.as_str(), message.as_str()],
        _ => ["not synced", message.as_str()],
    };
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

#[cfg(test)]
mod tests {
    use super::{End, line};

    #[test]
    fn a_look_that_finds_nothing_to_do_says_nothing() {
        let table = [
            (Some(0), "", "", None),
            (Some(0), "sent 10 observations", "", Some("sent 10 observations")),
            (Some(0), "received 1 observation", "60 vanished", Some("received 1 observation: 60 vanished")),
            (Some(0), "", "60 vanished", Some("60 vanished")),
            (Some(1), "", "no disk", Some("not synced: no disk")),
        ];
        for (code, moved, message, said) in table {
            let end = End { code, moved: moved.to_owned(), message: message.to_owned(), ..End::default() };
            assert_eq!(line(&end).as_deref(), said, "{moved} {message}");
        }
    }
}
