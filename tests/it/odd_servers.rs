//! Stores as people have them (issue 17): behind a path, behind a web server with a limit, behind a proxy, with a limit of
//! requests, with names in the host. Each is served, or its trouble is told as its own.

use std::net::TcpStream;
use std::sync::Arc;

use crate::common::{pushed, with_memory};
use crate::support::hostile::{Asked, HostileServer, nothing, refusal, send};
use crate::support::machine::Machine;
use crate::support::process::Outcome;
use crate::support::s3::{Fault, Op, S3Server};

/// A machine with memory at an endpoint of that server.
fn at(server: &HostileServer, path: &str) -> Machine {
    let mut machine = Machine::new("alpha", server.store());
    machine.set("MINIO_ENDPOINT", format!("{}{path}", server.url()));
    machine.set("NO_PROXY", "*");
    with_memory(&machine);
    machine
}

fn pushing(answer: fn(&Asked<'_>, &mut TcpStream) -> std::io::Result<()>) -> Outcome {
    let server = HostileServer::start(Arc::new(answer));
    at(&server, "").cmd("push_sqlite").run()
}

#[test]
fn an_endpoint_with_a_path_is_asked_below_that_path() {
    for path in ["/storage/v1/s3", "/storage/v1/s3/"] {
        let server = HostileServer::start(Arc::new(nothing));
        at(&server, path).cmd("status").run().assert_code(0).stdout_has("only here: 5 observations");
        let targets = server.targets();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(
                target.starts_with("/storage/v1/s3/b/") || target.starts_with("/storage/v1/s3/b?"),
                "{target}"
            );
        }
    }
}

#[test]
fn a_store_that_is_busy_now_and_then_is_waited_for() {
    let server = S3Server::start();
    let alpha = pushed(&server, 3);
    alpha.db().add_observations(2);
    for op in [Op::GetObject, Op::PutObject, Op::ListObjects] {
        let _busy = server.fault(Fault::SlowDown.on(op).next(2));
        let _throttled = server.fault(Fault::Status(429, "TooManyRequests").on(op).after(2).next(1));
        alpha.db().add_observations(1);
        alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    }
    // Nor is the limit taken for a store without conditions.
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(beta.db().counts().observations, alpha.db().counts().observations);
}

#[test]
fn a_bucket_that_insists_on_an_integrity_header_gets_one() {
    let server = S3Server::start();
    let _locked = server.fault(Fault::WantsIntegrity.on(Op::PutObject));
    let alpha = pushed(&server, 3);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(beta.db().counts().observations, alpha.db().counts().observations);
}

#[test]
fn a_store_that_wants_the_bucket_in_the_host_name_is_asked_so_once_it_says_it() {
    // Names that nobody resolves: a proxy gets the whole URL.
    let store = HostileServer::start(Arc::new(|asked: &Asked<'_>, stream: &mut TcpStream| {
        if asked.target.starts_with("http://bucket.store.example:9000/") {
            return nothing(asked, stream);
        }
        send(stream, 403, "", &refusal("SecondLevelDomainForbidden", "use virtual hosted style"))
    }));
    let mut alpha = at(&store, "");
    alpha.set("MINIO_ENDPOINT", "http://store.example:9000").set("MINIO_BUCKET", "bucket");
    alpha.set("NO_PROXY", "").set("HTTP_PROXY", store.url());
    let looked = alpha.cmd("status").run();
    assert_eq!(looked.code, 0, "{looked:?} {:?}", store.targets());
    looked.stdout_has("only here: 5 observations");
    // Or from the start, where a person says so; the other way round, no more than the word that names the setting.
    let before = store.requests();
    alpha.set("MINIO_ADDRESSING", "virtual");
    alpha.cmd("status").run().assert_code(0);
    let targets = store.targets();
    assert!(targets[before..].iter().all(|target| target.starts_with("http://bucket.store.example:9000/")));
    alpha.set("MINIO_ADDRESSING", "path");
    alpha.cmd("status").run().assert_code(1).says("MINIO_ADDRESSING=virtual");
}

#[test]
fn what_the_conditions_of_a_store_are_worth_is_found_out_once_and_in_few_requests() {
    let server = S3Server::start();
    let probes = || server.requests().iter().filter(|seen| seen.key.contains("/probe/")).count();
    let alpha = pushed(&server, 3);
    assert!((1..=40).contains(&probes()), "{}", probes());
    server.reset_log();
    alpha.db().add_observations(1);
    for command in ["sync --for turn", "push_sqlite"] {
        alpha.cmd(command).run().assert_code(0);
    }
    assert_eq!(probes(), 0);
}

#[test]
fn a_cache_in_front_of_the_store_is_named() {
    let server = S3Server::start();
    server.cache();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    let refused = alpha.cmd("push_sqlite").run();
    refused.assert_code(1).says("answered with old content").says("cache").never_says("other machines");
    assert!(server.keys("").iter().all(|key| !key.contains("/commits/")));
}

#[test]
fn http_in_the_clear_is_named_where_a_person_looks_and_where_the_store_is_chosen() {
    const SAID: &str = "plain http: whoever sees the network sees the memory";
    let server = S3Server::start();
    let mut alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    alpha.cmd("status").run().assert_code(0).never_says(SAID);
    // Another host: the server stands in for the proxy, too.
    alpha.set("MINIO_ENDPOINT", "http://store.example:9000").set("HTTP_PROXY", server.endpoint());
    for command in ["status", "doctor"] {
        alpha.cmd(command).run().says(SAID);
    }
    for name in ["MINIO_SECRET_KEY", "CLAUDE_PROJECT_ID", "CLAUDE_MEM_DB", "MINIO_BUCKET"] {
        alpha.unset(name);
    }
    let answers = format!("{}\n{}\nmem\n\n", server.secret_key, server.bucket);
    alpha.cmd("config init").stdin(answers).run().assert_code(0).says(SAID);
}

#[test]
fn whose_trouble_it_is() {
    pushing(|_, stream| send(stream, 407, "", ""))
        .assert_code(1)
        .stdout_has("that is the proxy, not the store: check HTTP_PROXY");
    pushing(|asked, stream| match asked.method {
        "PUT" => send(stream, 413, "", "<html><h1>413 Request Entity Too Large</h1></html>"),
        _ => nothing(asked, stream),
    })
    .assert_code(1)
    .stdout_has("client_max_body_size");
    pushing(|_, stream| {
        send(stream, 403, "", &refusal("SecondLevelDomainForbidden", "use virtual hosted style"))
    })
    .assert_code(1)
    .stdout_has("MINIO_ADDRESSING=virtual");
    pushing(|asked, stream| match asked.method {
        "PUT" => {
            send(stream, 403, "", &refusal("AccessDenied", "Cannot upload files, storage cap exceeded."))
        }
        _ => nothing(asked, stream),
    })
    .assert_code(1)
    .stdout_has("raise the quota");
}

#[test]
fn a_proxy_that_is_gone_is_named_and_never_gone_around() {
    let server = HostileServer::start(Arc::new(nothing));
    let mut alpha = at(&server, "");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Loopback is never proxied: a name that only the proxy could know.
    alpha.set("MINIO_ENDPOINT", "http://store.example:9000").set("NO_PROXY", "");
    alpha.set("HTTP_PROXY", format!("http://me:p%40ss%3A@{closed}"));
    alpha.cmd("status").run().assert_code(1).says("proxy").never_says("p%40ss").never_says("p@ss");
    // And one that is there is asked, with its user and password.
    let proxy = HostileServer::start(Arc::new(nothing));
    alpha.set("HTTP_PROXY", format!("http://me:p%40ss%3A@{}", proxy.at));
    alpha.cmd("status").run().assert_code(0);
    assert!(proxy.targets().iter().all(|target| target.starts_with("http://store.example:9000/")));
    assert!(proxy.requests() > 0 && server.requests() == 0);
    // So is one that is named for all protocols; the name of our own protocol goes before it.
    let other = HostileServer::start(Arc::new(nothing));
    alpha.unset("HTTP_PROXY").set("ALL_PROXY", other.url());
    alpha.cmd("status").run().assert_code(0);
    assert!(other.requests() > 0);
    // One that we cannot speak to is an error, and no reason to go without.
    alpha.set("ALL_PROXY", "socks5://me:p%40ss@127.0.0.1:1080");
    let end = alpha.cmd("status").run();
    end.assert_code(1).says("a socks5:// proxy cannot be used").says("NO_PROXY=*").never_says("p%40ss");
    alpha.set("ALL_PROXY", "not a proxy");
    alpha.cmd("status").run().assert_code(1).says("ALL_PROXY");
    assert_eq!(server.requests(), 0);
}
