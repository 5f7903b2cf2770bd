//! `log`: the newest segments of all machines: who, when, what. Changes nothing.

use serde_json::{Map, Value, json};

use super::run::Run;
use crate::error::CommandResult;
use crate::outcome::Outcome;
use crate::rows::Record;
use crate::rows::header::{Header, Kind};
use crate::rows::log::{ListedSegment, LogError, RowLog};
use crate::rows::report::Tally;
use crate::storage::records;
use crate::ui::{Report, human_bytes};

/// Larger segments (bytes) are read with `-v` only: they hold the first publish of a machine, or a year.
const LARGE: u64 = 1 << 20;
/// Longer names are cut (characters).
const NAME: usize = 12;
/// Titles of one segment that are shown.
const TITLES: usize = 10;

/// What one segment says.
struct Told {
    header: Header,
    titles: Vec<String>,
    /// Rows with a title that are not shown.
    more: u64,
}

pub(super) async fn run(run: &Run, limit: usize) -> CommandResult<Report> {
    let (config, bucket) = run.open_to_read().await?;
    let log = RowLog::new(&bucket, &config.paths.tmp());
    let mut listed = log.segments().await?;
    listed.sort_by(|a, b| (b.modified, &b.writer, b.number).cmp(&(a.modified, &a.writer, a.number)));
    if listed.is_empty() {
        run.ui.line("no rows have travelled yet: the next sync begins it");
        return Ok(Report::ok(Outcome::Empty).with("segments", Value::Array(Vec::new())));
    }
    let mut read = Vec::new();
    for segment in listed.iter().take(limit) {
        let looked =
            if segment.size > LARGE && !run.verbose { Ok(None) } else { look(run, &log, segment).await };
        let (told, problem) = match looked {
            Ok(told) => (told, None),
            Err(error) if error.is_damage() => (None, Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        read.push((segment, told, problem));
    }
    // What is shown is when it was recorded; a store counts in seconds, and knows a copied folder by the copy's times.
    read.sort_by_key(|(segment, told, _)| std::cmp::Reverse(made(segment, told.as_ref())));
    let mut segments = Vec::new();
    for (segment, told, problem) in read {
        match &problem {
            Some(problem) => run.ui.warn(problem),
            None if told.as_ref().is_some_and(|told| is_repeated(&told.header, &listed)) => {}
            None => show(run, segment, told.as_ref()),
        }
        let object = object(segment, told.as_ref(), problem);
        segments.push(object);
    }
    Ok(Report::ok(Outcome::Shown).with("segments", Value::Array(segments)))
}

/// When a segment was made (seconds since 1970): as its writer says, or as the store says.
fn made(segment: &ListedSegment, told: Option<&Told>) -> i64 {
    let said = told.and_then(|told| told.header.time.parse::<jiff::Timestamp>().ok());
    said.map_or(segment.modified, jiff::Timestamp::as_second)
}

/// Reads a segment; `None`: it was folded a moment ago.
async fn look(run: &Run, log: &RowLog<'_>, segment: &ListedSegment) -> Result<Option<Told>, LogError> {
    let Some(fetched) = log.get(&segment.writer, segment.number).await? else {
        return Ok(None);
    };
    let mut reader = fetched.reader;
    let (mut titles, mut more, mut line) = (Vec::new(), 0, Vec::new());
    while run.verbose && reader.next_line(&mut line).map_err(|error| log.broken(segment, error))? {
        // A line of a later membridge has no title that we know.
        let Some(title) = Record::read(&line).ok().and_then(|record| record.title()) else { continue };
        if titles.len() < TITLES {
            titles.push(title);
        } else {
            more += 1;
        }
    }
    Ok(Some(Told { header: reader.header, titles, more }))
}

/// A fold beside what it stands for says nothing new.
fn is_repeated(header: &Header, listed: &[ListedSegment]) -> bool {
    header.covers.is_some_and(|covers| {
        let mut own = listed.iter().filter(|segment| segment.writer == header.writer);
        own.any(|segment| covers.first <= segment.number && segment.number <= covers.last)
    })
}

fn show(run: &Run, segment: &ListedSegment, told: Option<&Told>) {
    let clock = run.context.clock();
    let Some(Told { header, titles, more }) = told else {
        let (size, number) = (human_bytes(segment.size), segment.number);
        let writer = segment.writer.get(..8).unwrap_or_default();
        let when = clock.briefly(clock.at(segment.modified));
        run.ui.line(row(&when, writer, &format!("#{number}, {size} (read it: membridge log -v)")));
        return;
    };
    let when = if header.time.is_empty() {
        clock.briefly(clock.at(segment.modified))
    } else {
        clock.briefly_said(&header.time)
    };
    run.ui.line(row(&when, name(header), &what(header)));
    for title in titles {
        run.ui.line(format!("    {title}"));
    }
    if *more > 0 {
        run.ui.line(format!("    … and {more} more"));
    }
}

fn row(when: &str, name: &str, what: &str) -> String {
    let name: String = name.chars().take(NAME).collect();
    format!("{when:<13}  {name:<NAME$}  {what}")
}

/// `12 observations, 3 prompts, 1 deleted`; of folds also that they are one.
fn what(header: &Header) -> String {
    let rows = Tally(header.rows.clone()).describe();
    let deleted = header.deleted.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
    let deleted = (deleted > 0).then(|| format!("{deleted} deleted"));
    let words: Vec<String> = Some(rows).filter(|rows| !rows.is_empty()).into_iter().chain(deleted).collect();
    let words = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
    match (header.kind, header.covers) {
        (Kind::Fold, Some(covers)) => {
            format!("{words} (segments {} to {} in one)", covers.first, covers.last)
        }
        (Kind::Base, _) => format!("{words} (all of this machine in one)"),
        _ => words,
    }
}

fn name(header: &Header) -> &str {
    let names = [header.node_id.as_str(), header.host.as_str()];
    names.into_iter().find(|name| !name.is_empty()).unwrap_or("unnamed")
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "an unknown time".to_owned(), records::iso)
}

fn object(segment: &ListedSegment, told: Option<&Told>, problem: Option<String>) -> Value {
    let mut fields = Map::new();
    fields.insert("writer".into(), segment.writer.clone().into());
    fields.insert("number".into(), segment.number.into());
    fields.insert("bytes".into(), segment.size.into());
    fields.insert("published".into(), time(segment.modified).into());
    if let Some(problem) = problem {
        fields.insert("problem".into(), problem.into());
    }
    if let Some(told) = told {
        let header = &told.header;
        fields.insert("kind".into(), json!(header.kind));
        fields.insert("time".into(), header.time.clone().into());
        fields.insert("node_id".into(), header.node_id.clone().into());
        fields.insert("host".into(), header.host.clone().into());
        fields.insert("rows".into(), json!(header.rows));
        fields.insert("deleted".into(), json!(header.deleted));
        fields.insert("covers".into(), json!(header.covers));
        fields.insert("titles".into(), json!(told.titles));
    }
    Value::Object(fields)
}
