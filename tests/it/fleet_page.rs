//! The page in a real browser: `make test-page` runs these with chromium and chromedriver, and says so where they are
//! missing. With MEMBRIDGE_WRITE_DOCS=1 they write the screenshots in docs/.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::with_memory;
use crate::support::fleet::{ADMIN_KEY, AGENT_KEY, Daemon, ask};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

const CID: &str = "6fe2e0f6071ac2bb";

/// A name that would be a program if it were markup.
const HOSTILE: &str = "<script>alert(1)</script>";

/// Chromium, driven through WebDriver.
struct Browser {
    driver: Child,
    at: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver: make test-page says what to install");
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok())
            .expect("the port of chromedriver");
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--window-size=1100,900".to_owned(),
            "--lang=en".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let answer = ask(at, "POST", "/session", &[], Some(&wanted.to_string())).unwrap().expect(200);
        let session = answer["value"]["sessionId"].as_str().unwrap().to_owned();
        Browser { driver, at, session, _profile: profile }
    }

    #[track_caller]
    fn tell(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        let answer = ask(self.at, "POST", &path, &[], Some(&body.to_string())).unwrap();
        answer.expect(200)["value"].clone()
    }

    fn open(&self, url: &str) {
        self.tell("url", &json!({"url": url}));
    }

    /// Runs a script in the page and gives back what it returns.
    #[track_caller]
    fn eval(&self, script: &str) -> Value {
        self.tell("execute/sync", &json!({"script": format!("return {script};"), "args": []}))
    }

    fn text(&self, selector: &str) -> String {
        let shown =
            self.eval(&format!("(document.querySelector({}) || {{}}).innerText || ''", json!(selector)));
        shown.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text of an element holds the words.
    #[track_caller]
    fn wait(&self, selector: &str, words: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let text = self.text(selector);
            if text.contains(words) {
                return;
            }
            assert!(Instant::now() < deadline, "{selector} never said {words:?}: {text:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = self.tell("element", &json!({"using": "css selector", "value": selector}));
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    /// Clicks; an element that a redraw has just replaced is looked for again, as a person's eye does.
    #[track_caller]
    fn click(&self, selector: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let element = self.element(selector);
            let path = format!("/session/{}/element/{element}/click", self.session);
            let answer = ask(self.at, "POST", &path, &[], Some("{}")).unwrap();
            if answer.status == 200 {
                return;
            }
            assert!(Instant::now() < deadline, "{selector}: {answer:?}");
        }
    }

    #[track_caller]
    fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.tell(&format!("element/{element}/clear"), &json!({}));
        self.tell(&format!("element/{element}/value"), &json!({"text": text}));
    }

    /// Presses a key where the focus is.
    fn press(&self, key: &str) {
        let actions = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.tell("actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}));
    }

    fn developer(&self, command: &str, parameters: &Value) {
        self.tell("goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    /// A picture for docs/, where somebody asked for them.
    fn picture(&self, name: &str) {
        let path = format!("/session/{}/screenshot", self.session);
        let answer = ask(self.at, "GET", &path, &[], None).unwrap().expect(200);
        let bytes = aws_smithy_types::base64::decode(answer["value"].as_str().unwrap()).unwrap();
        assert!(bytes.len() > 1_000 && bytes.starts_with(b"\x89PNG"));
        if std::env::var_os("MEMBRIDGE_WRITE_DOCS").is_some() {
            let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
            std::fs::write(docs.join(name), bytes).unwrap();
        }
    }

    /// With the right key, until the page is live.
    fn enter(&self, url: &str) {
        self.open(&format!("{url}/ui"));
        self.write("#key", ADMIN_KEY);
        self.click("#key-save");
        self.wait("#state", "live");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ask(self.at, "DELETE", &format!("/session/{}", self.session), &[], None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn server_at(machine: &Machine, at: &str) -> Daemon {
    let run = machine.cmd(&format!("server --listen {at}"));
    let run = run.env("MEMBRIDGE_ADMIN_KEY", ADMIN_KEY).env("MEMBRIDGE_AGENT_KEY", AGENT_KEY);
    Daemon::start(run.timeout(Duration::from_mins(10)).spawn(), Some(("X-MEMBRIDGE-ADMIN", ADMIN_KEY)))
}

fn beat(server: &Daemon, node: &str, project: &str, observations: u32) {
    let cid = membridge::identity::canonical_id(project);
    let body =
        json!({"node_id": node, "canonical_id": cid, "project_id": project, "obs_count": observations});
    server.post("/agent/heartbeat", &body).expect(200);
}

#[test]
#[ignore = "needs chromium: make test-page"]
fn a_key_opens_the_page_and_nodes_arrive_while_one_looks() {
    let store = S3Server::start();
    let desk = Machine::new("desk", &store);
    let server = Daemon::server(&desk, "");
    let browser = Browser::start();
    browser.open(&format!("{}/ui", server.url()));
    assert!(browser.eval("location.pathname").as_str().unwrap().ends_with("/static/ui.html"));
    browser.wait("#state", "the key is missing or wrong");
    browser.write("#key", "a wrong one");
    browser.click("#key-save");
    browser.wait("#state", "the key is missing or wrong");
    browser.enter(&server.url());
    beat(&server, "pi", "mem", 12);
    browser.wait("#view", "pi");
    beat(&server, "board", HOSTILE, 7);
    browser.wait("#said", "board");
    browser.wait("#view", HOSTILE);
    assert_eq!(browser.eval("document.querySelectorAll('script').length"), 1, "a name became markup");
    // The key is in the tab's own storage only, and nothing was asked of anybody else.
    assert_eq!(browser.eval("sessionStorage.getItem('key')"), ADMIN_KEY);
    assert_eq!(browser.eval("localStorage.length + document.cookie.length"), 0);
    let foreign =
        "performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin)).length";
    assert_eq!(browser.eval(foreign), 0);
    browser.picture("fleet-page.png");
}

#[test]
#[ignore = "needs chromium: make test-page"]
fn a_machine_is_made_primary_after_a_question() {
    let store = S3Server::start();
    let [desk, alpha] = ["desk", "alpha"].map(|name| Machine::new(name, &store));
    with_memory(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let server = Daemon::server(&desk, "");
    beat(&server, "alpha", "mem", 5);
    beat(&server, "board", "mem", 5);
    let browser = Browser::start();
    browser.enter(&server.url());
    browser.wait("#view", "mem");
    browser.click(&format!("[data-k=open-{}]", "6fe2e0f6071ac2bb"));
    browser.wait("#primary", "alpha");
    browser.click("[data-k=promote-board]");
    browser.wait("#ask", "Make board primary?");
    browser.wait("#ask", "alpha is primary now");
    browser.picture("fleet-question.png");
    browser.press("\u{e00c}"); // Escape
    browser.eval("document.getElementById('ask').open || null");
    browser.wait("#primary", "alpha");
    browser.click("[data-k=promote-board]");
    browser.click("#ask-form button[value=yes]");
    browser.wait("#primary", "board");
    browser.wait("#said", "board is primary now");
    let lease = store.text(&format!("projects/{CID}/leadership/lease.json"));
    let lease: Value = serde_json::from_str(&lease).unwrap();
    assert_eq!(
        (lease["primary_node_id"].as_str(), lease["issued_by"].as_str()),
        (Some("board"), Some("desk"))
    );
    // Somebody else was faster: the page says so, and shows who it is.
    browser.click("[data-k=promote-alpha]");
    desk.cmd("promote gamma").run().assert_code(0);
    browser.click("#ask-form button[value=yes]");
    browser.wait("#said", "has been chosen anew meanwhile: it is gamma now");
}

#[test]
#[ignore = "needs chromium: make test-page"]
fn a_job_is_seen_to_run_and_to_fail() {
    let store = S3Server::start();
    let mut desk = Machine::new("desk", &store);
    desk.set("MEMBRIDGE_AGENT_SCRIPTS", "1");
    let go = desk.path("go");
    let script = format!(
        "#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.05; done; echo '<b>out</b>'; exit 3\n",
        go.display()
    );
    desk.write_program(".claude-mem-minio/bin/claude-mem-push", script);
    let agent = Daemon::agent(&desk, "--no-watch");
    let server = Daemon::server(&desk, "");
    server.post("/agents", &json!({"name": "a1", "url": agent.url()})).expect(201);
    beat(&server, "pi", "mem", 5);
    let browser = Browser::start();
    browser.enter(&server.url());
    browser.wait("#view", "mem");
    browser.click(&format!("[data-k=open-{CID}]"));
    browser.wait("#view", "Through agent");
    browser.click("[data-k=run-push]");
    browser.click("[data-k=nav-jobs]");
    browser.wait("#view", "running");
    std::fs::write(go, "").unwrap();
    browser.wait("#view", "push failed");
    browser.wait("#said", "failed");
    browser.click("#view tbody button");
    browser.wait("#view pre", "<b>out</b>");
    browser.picture("fleet-jobs.png");
}

#[test]
#[ignore = "needs chromium: make test-page"]
fn a_server_that_goes_and_comes_back_is_followed() {
    let store = S3Server::start();
    let desk = Machine::new("desk", &store);
    let server = Daemon::server(&desk, "");
    let at = server.at.to_string();
    beat(&server, "pi", "mem", 5);
    let browser = Browser::start();
    browser.enter(&server.url());
    browser.wait("#view", "pi");
    server.kill();
    browser.wait("#state", "the server does not answer");
    // What was seen stays on the screen.
    assert!(browser.text("#view").contains("pi"));
    let server = server_at(&desk, &at);
    browser.wait("#state", "live");
    beat(&server, "later", "mem", 5);
    browser.wait("#view", "later");
}

#[test]
#[ignore = "needs chromium: make test-page"]
fn keyboard_narrow_screens_darkness_and_ukrainian() {
    let store = S3Server::start();
    let desk = Machine::new("desk", &store);
    let server = Daemon::server(&desk, "");
    for node in ["pi", "a-board-with-a-rather-long-name.example.org"] {
        beat(&server, node, "mem", 1234);
        beat(&server, node, &"a-long-name-".repeat(10), 5);
    }
    let browser = Browser::start();
    browser.enter(&server.url());
    browser.wait("#view", "pi");
    // By keyboard alone: the first stop is the way to the content, and a project opens with Enter.
    browser.eval("(document.querySelector('#skip').focus(), null)");
    let mut stops = Vec::new();
    for _ in 0..40 {
        browser.press("\u{e004}");
        stops.push(browser.eval("document.activeElement.id || document.activeElement.dataset.k"));
        if stops.last() == Some(&json!(format!("open-{CID}"))) {
            break;
        }
    }
    browser.press("\u{e007}");
    browser.wait("#view h2", "mem");
    assert!(stops.iter().any(|stop| stop == "nav-jobs"), "{stops:?}");
    // Each control has a name that a screen reader can say.
    let nameless = "[...document.querySelectorAll('button, input, select')].filter(e => !(e.innerText || e.getAttribute('aria-label') || (e.labels && e.labels.length))).length";
    assert_eq!(browser.eval(nameless), 0);
    assert_eq!(browser.eval("document.querySelector('#said').getAttribute('aria-live')"), "polite");
    browser.developer(
        "Emulation.setDeviceMetricsOverride",
        &json!({"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true}),
    );
    for view in ["fleet", "jobs", &format!("project/{CID}")] {
        browser.eval(&format!("(location.hash = '{view}', null)"));
        let width = browser.eval("document.documentElement.scrollWidth");
        assert!(width.as_u64().unwrap() <= 360, "{view} is {width} wide");
    }
    let paper = "getComputedStyle(document.body).backgroundColor";
    let scheme = |value: &str| {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        browser.developer("Emulation.setEmulatedMedia", &features);
        browser.eval(paper)
    };
    let (light, dark) = (scheme("light"), scheme("dark"));
    assert_ne!(light, dark);
    browser.eval("(document.querySelector('#language').value = 'uk', document.querySelector('#language').dispatchEvent(new Event('change')), null)");
    browser.wait("#nav", "Флот");
    assert_eq!(browser.eval("document.documentElement.lang"), "uk");
    browser.wait("#view", "Машина");
    browser.picture("fleet-narrow-dark-uk.png");
}
