//! `watch`: a foreground process that pushes after changes and pulls what others pushed, until it is told to end.
//! Each push and pull is the ordinary command in a process of its own, so memory stays flat for months.

use std::future::Future;
use std::time::{Duration, Instant};

use super::run::Run;
use crate::cli::WatchOptions;
use crate::config::Config;
use crate::error::{Code, CommandResult, Failure};
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
    if let Some(line) = line(what, end) {
        run.ui.line(format!("{:.0} {line}", run.context.now()));
    }
}

/// What there is to say about a command that has ended; `None` when it had nothing to do, as at most looks.
fn line(what: &str, end: &End) -> Option<String> {
    if matches!(end.outcome.as_str(), "up_to_date" | "local_ahead" | "remote_ahead") {
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
    use super::{End, line};

    #[test]
    fn a_look_that_finds_nothing_to_do_says_nothing_and_nothing_is_said_twice() {
        let table = [
            ("pull", "up_to_date", "", None),
            ("pull", "local_ahead", "", None),
            ("push", "remote_ahead", "", None),
            ("pull", "pulled", "", Some("pull pulled")),
            ("push", "failed", "no disk", Some("push failed: no disk")),
            ("push", "refused", "push refused: secondary", Some("push refused: secondary")),
        ];
        for (what, outcome, message, said) in table {
            let end = End { outcome: outcome.to_owned(), code: None, message: message.to_owned() };
            assert_eq!(line(what, &end).as_deref(), said, "{what} {outcome}");
        }
    }
}
