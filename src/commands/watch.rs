//! `watch`: a foreground process that pushes after changes and pulls what others pushed, until it is told to end.
//! Each push and pull is the ordinary command in a process of its own, so memory stays flat for months.

use std::future::Future;
use std::time::{Duration, Instant};

use super::Run;
use crate::cli::WatchOptions;
use crate::config::Config;
use crate::error::CommandResult;
use crate::hook::queue::Queue;
use crate::hook::work::{self, End};
use crate::ui::{Report, clean};
use crate::watch::{Pace, Step, Trace, Watch};

/// Between two looks at the file's size and time. Change notifications do not come through on the network file
/// systems that people keep homes on, and one look costs microseconds.
const LOOK: Duration = Duration::from_secs(2);

pub(super) async fn run(run: &Run, options: WatchOptions) -> CommandResult<Report> {
    let config = Config::new(&run.settings)?;
    let between_pushes = work::push_interval(&run.settings)?;
    let queue = Queue::of(
        &config.paths.state,
        &config.database.display().to_string(),
        between_pushes,
    )
    .map_err(|error| {
        crate::error::Failure::new(format!("cannot use {}: {error}", config.paths.state.display()))
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
                let Some(end) = command(run, &queue, "pull_sqlite").await else {
                    break;
                };
                watch.pulled(start.elapsed(), settled(&end));
                report(run, "pull", &end);
            }
            Step::Push => {
                let Some(end) = command(run, &queue, "push_sqlite").await else {
                    break;
                };
                watch.pushed(start.elapsed(), trace, settled(&end));
                report(run, "push", &end);
            }
        }
    }
    run.ui.line("stopped");
    Ok(Report::ok("stopped"))
}

/// Runs one command when no hook's runs; `None`: we were told to end.
async fn command(run: &Run, queue: &Queue, name: &'static str) -> Option<End> {
    let told = async {
        run.context.interrupted().await;
    };
    tokio::pin!(told);
    let turn = tokio::select! {
        turn = queue.alone() => turn,
        () = &mut told => return None,
    };
    let done = match turn {
        Ok(_turn) => ended(work::run(name, &[], told), run).await?,
        Err(error) => Err(error),
    };
    Some(done.unwrap_or_else(|error| End::failed(error.to_string())))
}

async fn ended(work: impl Future<Output = std::io::Result<End>>, run: &Run) -> Option<std::io::Result<End>> {
    let end = work.await;
    // The command heard of the signal through us and gave back what it held.
    (!run.context.was_interrupted()).then_some(end)
}

/// Whether there is nothing to try again: done, or refused because of this node's role.
fn settled(end: &End) -> bool {
    matches!(end.code, Some(0 | 2 | 3))
}

fn report(run: &Run, what: &str, end: &End) {
    if end.outcome == "up_to_date" || end.outcome == "nothing_to_pull" {
        return;
    }
    let message = if end.message.is_empty() {
        String::new()
    } else {
        format!(": {}", clean(&end.message))
    };
    run.ui.line(format!(
        "{:.0} {what} {}{message}",
        run.context.now(),
        end.outcome
    ));
}
