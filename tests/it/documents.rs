//! The commands in README.md, MIGRATION.md and DEPLOYMENT.md run as they stand, in their order: each ```sh block on a
//! machine of its own document, in a release folder, with programs that belong to the system (systemctl, crontab, mc)
//! replaced by recorders, and make by `make --dry-run`. A comment in the line before a block says where it runs, how it
//! ends, what is typed, or what has to have happened before:
//! `<!-- on: board -->`, `<!-- in: the sources -->`, `<!-- exits: 3 -->`, `<!-- answers: … -->`, `<!-- before: … -->`.
//! The units that they write, and the ones in packaging/, are read by systemd itself in `make test-packages`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

use membridge::config::env_file;
use membridge::config::settings::SETTINGS;
use sha2::{Digest, Sha256};

use super::docs::{python, read, root};
use crate::common::{self, rows};
use crate::support::claude_mem::{self, MemDb, Version};
use crate::support::machine::Machine;
use crate::support::python_node::PythonNode;
use crate::support::s3::S3Server;

const BINARY: &str = env!("CARGO_BIN_EXE_membridge");

fn sum_of_the_binary() -> &'static str {
    static SUM: OnceLock<String> = OnceLock::new();
    SUM.get_or_init(|| membridge::context::hex(&Sha256::digest(std::fs::read(BINARY).unwrap())))
}

/// A fenced block.
pub struct Block {
    pub document: &'static str,
    pub line: usize,
    pub language: String,
    pub text: String,
    pub directives: BTreeMap<String, String>,
}

pub fn blocks(document: &'static str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut directives = BTreeMap::new();
    let mut open: Option<Block> = None;
    for (index, line) in read(document).lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                open = Some(Block {
                    document,
                    line: index + 1,
                    language: language.to_owned(),
                    text: String::new(),
                    directives: std::mem::take(&mut directives),
                });
            }
            (None, None) => {
                let comment = line
                    .strip_prefix("<!-- ")
                    .and_then(|rest| rest.strip_suffix(" -->"))
                    .and_then(|text| text.split_once(": "));
                if let Some((name, value)) = comment {
                    directives.insert(name.to_owned(), value.to_owned());
                }
            }
        }
    }
    assert!(open.is_none(), "{document}: a block is not closed");
    found
}

/// Programs of the system that a document calls; each call is one line of a log.
const RECORDED: [&str; 7] = ["systemctl", "crontab", "mc", "rc-update", "rc-service", "sudo", "abuild"];

/// The machines of one document and the bucket between them.
struct Scene {
    server: S3Server,
    desk: Machine,
    board: Machine,
}

impl Scene {
    fn new() -> Scene {
        let server = S3Server::start();
        let desk = furnish(Machine::new("desk", &server));
        let board = furnish(Machine::new("board", &server));
        Scene { server, desk, board }
    }

    fn machine(&self, block: &Block) -> &Machine {
        match block.directives.get("on").map(String::as_str) {
            None => &self.desk,
            Some("board") => &self.board,
            Some(other) => panic!("{}:{}: no machine {other}", block.document, block.line),
        }
    }

    /// What has to have happened before a block makes sense.
    fn prepare(&self, what: &str) {
        match what {
            "memory under a pinned id" => {}
            "the bucket is empty" => self.server.clear(),
            "a fleet in the clear" => {
                for machine in [&self.desk, &self.board, &self.desk] {
                    machine.cmd("sync").run().assert_code(0);
                }
            }
            "this machine is primary" => {
                self.desk.cmd("promote desk").run().assert_code(0);
            }
            "a restore that took rows away" => {
                let commits =
                    self.server.keys("").into_iter().filter(|key| key.contains("/membridge/commits/"));
                let newest = commits.max().unwrap();
                let number =
                    newest.rsplit('/').next().unwrap().trim_end_matches(".json").trim_start_matches('0');
                self.desk.db().add_session("later").add_observations(5);
                self.desk.cmd("sync").run().assert_code(0);
                self.desk
                    .cmd(&format!("restore {number} --yes"))
                    .run()
                    .assert_code(0)
                    .stdout_has("this removes 5 observations");
            }
            other => panic!("nobody knows how to prepare: {other}"),
        }
    }

    /// Runs all blocks of a document; how many ran.
    fn play(&self, document: &'static str) -> usize {
        let mut ran = 0;
        for block in blocks(document) {
            // What documents_first_steps runs.
            if block.language != "sh" || block.directives.get("on").is_some_and(|on| on == "a new fleet") {
                continue;
            }
            if let Some(what) = block.directives.get("before") {
                self.prepare(what);
            }
            let wanted: i32 = block.directives.get("exits").map_or(0, |code| code.parse().unwrap());
            let machine = self.machine(&block);
            let folder = match block.directives.get("in").map(String::as_str) {
                None => machine.path("release"),
                Some("the sources") => root(),
                Some(other) => panic!("{document}:{}: no folder {other}", block.line),
            };
            let mut run = machine.program("/bin/sh").arg("-euc").arg(block.text.as_str()).current_dir(folder);
            if let Some(answers) = block.directives.get("answers") {
                run = run.stdin(match answers.as_str() {
                    "Enter to each question" => "\n".repeat(20),
                    "the fleet's key" => format!("{}\n", crate::sealed::key_of(&self.desk)),
                    other => panic!("nobody knows how to answer: {other}"),
                });
            }
            let outcome = run.run();
            assert!(
                outcome.code == wanted,
                "{document}:{}: exit code {}, wanted {wanted}\n{}\n{outcome:?}",
                block.line,
                outcome.code,
                block.text
            );
            ran += 1;
        }
        ran
    }

    /// The calls of the system's programs.
    fn recorded(&self) -> String {
        std::fs::read_to_string(self.desk.path("calls.log")).unwrap_or_default()
    }
}

/// Puts the binary and the recorders into the machine's PATH, and the release's files beside the reader.
fn furnish(mut machine: Machine) -> Machine {
    let bin = machine.path("bin");
    let write = |name: &str, text: &str| {
        machine.write_program(&format!("bin/{name}"), text);
    };
    for name in RECORDED {
        let input = if name == "crontab" { "[ \"$1\" != - ] || cat >> \"$HOME/calls.log\"\n" } else { "" };
        write(name, &format!("#!/bin/sh\necho \"{name} $*\" >> \"$HOME/calls.log\"\n{input}"));
    }
    write("make", &make());
    std::os::unix::fs::symlink(BINARY, bin.join("membridge")).unwrap();
    let release = machine.path("release");
    std::fs::create_dir(&release).unwrap();
    for name in ["config.env.example", "sqlite_minio_sync.py", "hooks", "install.sh"] {
        std::os::unix::fs::symlink(root().join(name), release.join(name)).unwrap();
    }
    let name = format!("membridge-0.0.0-{}-unknown-linux-musl", std::env::consts::ARCH);
    std::os::unix::fs::symlink(BINARY, release.join(&name)).unwrap();
    machine.write("release/SHA256SUMS", format!("{}  {name}\n", sum_of_the_binary()));
    let python = python().map_or(String::new(), |path| format!(":{}", path.parent().unwrap().display()));
    machine.set("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin{python}", bin.display()));
    machine
}

/// `make install` with the binary that is there; of any other target make says only what it would do.
pub fn make() -> String {
    let root = root();
    let root = root.display();
    format!(
        "#!/bin/sh\n[ \"$*\" = install ] || exec /usr/bin/make --dry-run -C '{root}' \"$@\"\n\
         exec sh '{root}/scripts/install-local.sh' install {BINARY} \"$HOME/.local/bin\" \"$HOME/.claude-mem-minio/bin\"\n"
    )
}

pub fn memory(machine: &Machine, observations: usize) {
    let db = machine.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(observations).add_prompts(5);
}

#[test]
fn the_readme_sets_up_two_machines() {
    let scene = Scene::new();
    memory(&scene.desk, 30);
    assert!(scene.play("README.md") >= 6);
    let installed = scene.desk.path(".local/bin/membridge");
    assert_eq!(std::fs::read(installed).unwrap().len(), std::fs::read(BINARY).unwrap().len());
    let config = scene.desk.path(".claude-mem-minio/config.env");
    assert_eq!(std::fs::metadata(config).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(rows(&scene.desk.db_path()), rows(&scene.board.db_path()));
}

#[test]
fn the_migration_guide_takes_over_from_python_and_goes_back() {
    if python().is_none() {
        return;
    }
    let scene = Scene::new();
    // What a Python fleet leaves: old-pi is primary, and desk holds what it held some time ago.
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("claude-mem.db");
    let db = MemDb::create_as(&theirs, Version::V13_25_3, "fleet");
    db.add_session("one").add_observations(60);
    let old_pi = PythonNode::new(&scene.server, "mem", "old-pi");
    assert_eq!(old_pi.push(&theirs, jiff::Timestamp::now().as_second() - 8000), 0);
    let ours = MemDb::create_as(scene.desk.db_path(), Version::V13_25_3, "fleet");
    ours.add_session("one").add_observations(40);
    scene.desk.write("membridge-python/sqlite_minio_sync.py", "# the old script\n");

    assert!(scene.play("MIGRATION.md") >= 11);
    assert!(!scene.desk.path(".local/bin/membridge").exists(), "uninstalled");
    assert_eq!(claude_mem::counts(scene.desk.db_path()).observations, 60);
    let script = scene.desk.path("membridge-python/sqlite_minio_sync.py");
    assert_eq!(std::fs::read_to_string(script).unwrap(), "# the old script\n");
    assert!(scene.recorded().contains("mc cp --recursive store/"));

    // Back with Python: it reads what is there, and what membridge pushes from here on.
    assert!(old_pi.read().is_ok());
    ours.add_observations(30);
    scene
        .desk
        .cmd("push_sqlite")
        .env("ALLOW_SECONDARY_PUSH", "1")
        .env("FORCE_PUSH", "1")
        .run()
        .assert_code(0);
    old_pi.pull(&folder.path().join("pulled.db")).unwrap();
    assert_eq!(old_pi.remote_observations(), Some(90));
    assert_eq!(claude_mem::counts(folder.path().join("pulled.db")).observations, 90);
}

#[test]
fn the_deployment_guide_runs_from_the_first_install_to_every_recovery() {
    let scene = Scene::new();
    memory(&scene.desk, 50);
    let before = common::memory(&scene.desk.db_path());
    assert!(scene.play("DEPLOYMENT.md") >= 16);
    // The key that was made is the one in config.env, which nobody else can read, and it reaches this bucket only.
    let added = scene.recorded();
    let secret =
        added.lines().find_map(|call| call.strip_prefix("mc admin user add store membridge ")).unwrap();
    let config = std::fs::read_to_string(scene.desk.path(".claude-mem-minio/config.env")).unwrap();
    let config = env_file::parse(&config, |_| None).unwrap();
    assert_eq!((config["MINIO_SECRET_KEY"].as_str(), secret.len()), (secret, 32));
    let mode = std::fs::metadata(scene.desk.path(".claude-mem-minio/config.env")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let policy = std::fs::read(scene.desk.path("release/membridge-policy.json")).unwrap();
    let policy: serde_json::Value = serde_json::from_slice(&policy).unwrap();
    for statement in policy["Statement"].as_array().unwrap() {
        let resource = statement["Resource"][0].as_str().unwrap();
        assert!(resource.starts_with("arn:aws:s3:::membridge-test"), "{resource}");
    }
    // Through a restore that went too far, a lost database and a lost bucket, both ended with all that desk ever had.
    let (desk, board) = (common::memory(&scene.desk.db_path()), common::memory(&scene.board.db_path()));
    assert_eq!(desk.len(), before.len() + 6, "five observations and their session");
    assert!(before.iter().all(|row| desk.contains(row)));
    assert_eq!(desk, board);
    let calls = scene.recorded();
    for wanted in [
        "mc mb --ignore-existing",
        "crontab -",
        "membridge --quiet sync",
        "systemctl --user enable --now membridge.timer",
        "rc-update add crond default",
        "sudo dpkg -i membridge_",
        "abuild -r",
        "mc mirror",
    ] {
        assert!(calls.contains(wanted), "{wanted} was not called:\n{calls}");
    }
}

#[test]
fn every_configuration_line_in_a_document_is_a_setting() {
    let mut lines = 0;
    for document in ["README.md", "MIGRATION.md", "DEPLOYMENT.md"] {
        for block in blocks(document).iter().filter(|block| block.language == "ini") {
            for name in env_file::parse(&block.text, |_| None).unwrap().keys() {
                assert!(
                    SETTINGS.iter().any(|setting| setting.name == name),
                    "{document}:{}: {name} is no setting",
                    block.line
                );
                lines += 1;
            }
        }
    }
    assert!(lines >= 2);
}

/// Every block is a language that some test above reads, and its comments are ones that are understood.
#[test]
fn no_block_is_left_out() {
    let all: Vec<_> = ["README.md", "MIGRATION.md", "DEPLOYMENT.md"].into_iter().flat_map(blocks).collect();
    for block in &all {
        let (document, line) = (block.document, block.line);
        let known = ["sh", "ini", "json"].contains(&block.language.as_str());
        assert!(known, "{document}:{line}: nobody runs or reads '{}'", block.language);
        for name in block.directives.keys() {
            let known = ["on", "in", "exits", "answers", "before"].contains(&name.as_str());
            assert!(known, "{document}:{line}: nobody knows '{name}'");
        }
    }
    assert!(all.iter().filter(|block| block.language == "sh").count() >= 30);
}
