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
}
