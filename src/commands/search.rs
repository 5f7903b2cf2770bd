//! `search WORDS`: observations by their words, in the live database and in the pushes that the bucket keeps. Changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::past::{self, Past};
use super::run::Run;
use crate::cli::SearchOptions;
use crate::config::Config;
use crate::database::fulltext::{self, Hit};
use crate::database::{self, DatabaseError, look::look, open_foreign};
use crate::error::{Code, CommandResult, Failure};
use crate::history::log;
use crate::outcome::Outcome;
use crate::storage::records;
use crate::ui::Report;

/// The most observations of one push that are compared with what is here.
const OF_ONE_PUSH: u32 = 1000;
/// The width of a line (characters).
const WIDTH: usize = 80;

/// What is looked for.
#[derive(Clone)]
struct Sought {
    query: String,
    only: Option<String>,
}

/// An observation of the past, and the pushes that have it.
struct Gone {
    hit: Hit,
    first: u64,
    last: u64,
}

pub(super) async fn run(run: &Run, options: &SearchOptions) -> CommandResult<Report> {
    let config = Config::new(&run.settings)?;
    let words = options.words.join(" ");
    let query = fulltext::query(&options.words).ok_or_else(|| {
        Failure::of(Code::Usage, format!("'{words}' holds no word to look for"))
            .hint("letters and digits count: membridge search worker lock")
    })?;
    let sought = Sought { query, only: options.only.clone() };
    let here = if options.history && !config.database.exists() {
        Vec::new()
    } else {
        in_database(&config.database, &sought, options.limit).await?
    };
    show_here(run, &here, options, &words);
    let mut report = Report::ok(Outcome::Shown)
        .with("observations", here.iter().map(|hit| Value::Object(fields(hit))).collect::<Value>());
    let mut found = here.len();
    if options.history {
        let (gone, searched) = in_history(run, &config, &sought).await?;
        show_gone(run, &gone, options, searched);
        found += gone.len();
        let listed = gone.iter().take(options.limit as usize).map(|gone| {
            let mut fields = fields(&gone.hit);
            fields.insert("first_commit".into(), gone.first.into());
            fields.insert("last_commit".into(), gone.last.into());
            Value::Object(fields)
        });
        report = report.with("commits", searched).with("past", listed.collect::<Value>());
    }
    if found == 0 {
        report.outcome = Outcome::Empty;
    }
    Ok(report)
}

async fn in_database(path: &std::path::Path, sought: &Sought, limit: u32) -> CommandResult<Vec<Hit>> {
    let (path, sought) = (path.to_owned(), sought.clone());
    let found = database::blocking(move || {
        if !path.exists() {
            return Err(DatabaseError::Missing(path));
        }
        look(&path, |connection| {
            if !fulltext::is_there(connection, &path)? {
                return Ok(None);
            }
            let hits = fulltext::hits(connection, &path, &sought.query, sought.only.as_deref(), limit)?;
            Ok(Some(hits))
        })
    });
    found.await?.ok_or_else(|| {
        Failure::of(Code::DatabaseForeign, "claude-mem's search index is not in this database")
            .hint("start claude-mem once: it makes its index, and then search again")
    })
}

/// What the pushes have and this database lacks, the newest first; and how many pushes were looked through.
async fn in_history(run: &Run, config: &Config, sought: &Sought) -> CommandResult<(Vec<Gone>, usize)> {
    let past = Past::open(run).await?;
    let Some(head) = log::head(&past.bucket, None).await? else {
        return Ok((Vec::new(), 0));
    };
    let mut commits = log::walk(&past.bucket, &head, usize::MAX).await?;
    commits.reverse();
    let progress = run.ui.progress("download", past::download(&commits.iter().collect::<Vec<_>>()));
    let (mut found, mut before) = (BTreeMap::new(), None);
    for commit in &commits {
        let image = past.image(commit, before.as_ref(), &progress).await?;
        for hit in missing_here(image.path.to_path_buf(), &config.database, sought).await? {
            let key = (hit.created_at_epoch, hit.kind.clone(), hit.title.clone());
            let gone = found.entry(key).or_insert_with(|| Gone { hit, first: commit.number, last: 0 });
            gone.last = commit.number;
        }
        before = Some(image);
    }
    Ok((found.into_values().rev().collect(), commits.len()))
}

/// What one image has of what is sought, and the database lacks.
async fn missing_here(image: PathBuf, live: &std::path::Path, sought: &Sought) -> CommandResult<Vec<Hit>> {
    let (live, sought) = (live.to_owned(), sought.clone());
    database::blocking(move || {
        let connection = open_foreign(&image, false)?;
        if !fulltext::is_there(&connection, &image)? {
            return Ok(Vec::new());
        }
        let hits = fulltext::hits(&connection, &image, &sought.query, sought.only.as_deref(), OF_ONE_PUSH)?;
        if hits.is_empty() || !live.exists() {
            return Ok(hits);
        }
        look(&live, |connection| {
            let mut missing = Vec::new();
            for hit in &hits {
                if !fulltext::holds(connection, &live, hit)? {
                    missing.push(hit.clone());
                }
            }
            Ok(missing)
        })
    })
    .await
}

fn show_here(run: &Run, here: &[Hit], options: &SearchOptions, words: &str) {
    if here.is_empty() {
        run.ui.line(format!("no observation here matches '{words}'"));
        if !options.history {
            run.ui.line("  → look in earlier pushes too: the same command with --history");
        }
        return;
    }
    for hit in here {
        show(run, hit, &format!("#{}", hit.id));
    }
    if here.len() == options.limit as usize {
        run.ui.line(format!("the best {} are shown; more with --limit N", here.len()));
    }
}

fn show_gone(run: &Run, gone: &[Gone], options: &SearchOptions, searched: usize) {
    let pushes = if searched == 1 { "push that is kept" } else { "pushes that are kept" };
    if gone.is_empty() {
        run.ui.line(format!("{searched} {pushes}: nothing more"));
        return;
    }
    run.ui.line(format!("no longer here, but in the {searched} {pushes}:"));
    for gone in gone.iter().take(options.limit as usize) {
        show(run, &gone.hit, "");
        let of = if gone.first == gone.last {
            format!("push {}", gone.last)
        } else {
            format!("pushes {} to {}", gone.first, gone.last)
        };
        run.ui.line(format!("         {of}: membridge restore {} --to FILE", gone.last));
    }
}

/// Two lines: when, what kind, the title; then where, and the words around what was found.
fn show(run: &Run, hit: &Hit, id: &str) {
    run.ui.line(fit(&format!("{id:<8} {}  {}  {}", day(hit.created_at_epoch), hit.kind, hit.title)));
    let excerpt = if hit.title == hit.excerpt { "" } else { hit.excerpt.as_str() };
    run.ui.line(fit(&format!("         {}  {excerpt}", hit.project)).trim_end());
}

/// As much of a line as a terminal has room for.
fn fit(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

fn moment(milliseconds: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(milliseconds).ok()
}

/// The day on which it was recorded, where the person lives.
fn day(milliseconds: i64) -> String {
    let zoned = moment(milliseconds).map(|at| at.to_zoned(TimeZone::system()));
    zoned.map_or_else(|| "?".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

fn fields(hit: &Hit) -> Map<String, Value> {
    let time = moment(hit.created_at_epoch).map(records::iso);
    let fields = [
        ("id", Value::from(hit.id)),
        ("time", time.into()),
        ("project", hit.project.as_str().into()),
        ("type", hit.kind.as_str().into()),
        ("title", hit.title.as_str().into()),
        ("excerpt", hit.excerpt.as_str().into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, fit};

    #[test]
    fn a_line_fits_a_terminal() {
        assert_eq!(fit("short"), "short");
        assert_eq!(fit(&"я".repeat(200)).chars().count(), WIDTH);
    }
}
