//! What people install: install.sh on a made-up release, the shim, the .deb, the APKBUILD. The binaries of a real
//! release are tried by `make test-dist`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::docs::{python, read, root};
use crate::support::machine::Machine;
use crate::support::process::Outcome;
use crate::support::s3::S3Server;

const BINARY: &str = env!("CARGO_BIN_EXE_membridge");

/// A release folder: the built binary under a release's name, install.sh, hooks, checksums.
fn release(machine: &Machine) -> PathBuf {
    let folder = machine.path("release");
    std::fs::create_dir(&folder).unwrap();
    let name = "membridge-0.0.0-x86_64-unknown-linux-musl";
    machine.copy_program(&format!("release/{name}"), Path::new(BINARY));
    std::fs::copy(root().join("install.sh"), folder.join("install.sh")).unwrap();
    std::os::unix::fs::symlink(root().join("hooks"), folder.join("hooks")).unwrap();
    let sum = membridge::context::hex(&Sha256::digest(std::fs::read(BINARY).unwrap()));
    machine.write("release/SHA256SUMS", format!("{sum}  {name}\n"));
    folder
}

fn install(machine: &Machine, words: &str) -> Outcome {
    let mut run = machine.program("/bin/sh").arg("release/install.sh").env("MEMBRIDGE_MACHINE", "x86_64");
    for word in words.split_whitespace() {
        run = run.arg(word);
    }
    run.run()
}

/// Files outside the release folder.
fn installed(machine: &Machine) -> Vec<String> {
    let mut files = machine.files();
    files.retain(|file| !file.starts_with("release/"));
    files
}

fn machine() -> Machine {
    let store = tempfile::tempdir().unwrap();
    Machine::new("desk", store.path())
}

#[test]
fn install_sh_installs_checks_and_removes_and_touches_nothing_else() {
    let machine = machine();
    release(&machine);
    machine.write(".claude/settings.json", "{}");
    machine.write(".claude-mem-minio/config.env", "MINIO_BUCKET=mine\n");
    let before = installed(&machine);

    install(&machine, "--dry-run").assert_code(0).stdout_has("would install");
    assert_eq!(installed(&machine), before);

    install(&machine, "").assert_code(0).stdout_has("checksum ok");
    let binary = machine.path(".local/bin/membridge");
    assert_eq!(std::fs::metadata(&binary).unwrap().permissions().mode() & 0o777, 0o755);
    machine.program(&binary).arg("print_project").run().assert_code(0);
    let hooks: Vec<_> =
        installed(&machine).into_iter().filter(|file| file.starts_with(".claude-mem-minio/bin/")).collect();
    assert_eq!(hooks.len(), 6, "{hooks:?}");
    // Once more, over what is there.
    install(&machine, "").assert_code(0);

    install(&machine, "--uninstall").assert_code(0);
    assert_eq!(installed(&machine), before);
    let config = std::fs::read_to_string(machine.path(".claude-mem-minio/config.env")).unwrap();
    assert_eq!(config, "MINIO_BUCKET=mine\n");
}

/// The wrapper scripts and what stands beside them, with their first words.
fn scripts(machine: &Machine) -> Vec<(String, String)> {
    let bin = ".claude-mem-minio/bin/";
    let names = installed(machine).into_iter().filter(|file| file.starts_with(bin));
    names
        .map(|file| {
            let text = std::fs::read_to_string(machine.path(&file)).unwrap();
            let words = if text.contains("# Part of membridge:") { "ours".to_owned() } else { text };
            (file[bin.len()..].to_owned(), words)
        })
        .collect()
}

fn a_persons_own_scripts_are_kept_and_given_back(
    install: &dyn Fn(&Machine),
    uninstall: &dyn Fn(&Machine) -> Outcome,
) {
    let machine = machine();
    release(&machine);
    let own = |name: &str| (name.to_owned(), format!("#!/bin/sh\n# {name} of Ann\n"));
    let mine = [own("claude-mem-hook-push"), own("claude-mem-push")];
    for (name, text) in &mine {
        machine.write(&format!(".claude-mem-minio/bin/{name}"), text);
    }
    machine.write(".claude-mem-minio/config.env", "what $(is) this\n");
    let before = installed(&machine);
    for _ in 0..2 {
        install(&machine);
        let there = scripts(&machine);
        assert_eq!(there.iter().filter(|(_, words)| words == "ours").count(), 6, "{there:?}");
        for (name, text) in &mine {
            assert!(there.contains(&(format!("{name}.before-membridge"), text.clone())), "{there:?}");
        }
        let share = installed(&machine);
        for file in
            ["man/man1/membridge.1", "bash-completion/completions/membridge", "zsh/site-functions/_membridge"]
        {
            assert!(share.contains(&format!(".local/share/{file}")), "{file}: {share:?}");
        }
    }
    let page = std::fs::read_to_string(machine.path(".local/share/man/man1/membridge.1")).unwrap();
    assert!(page.contains(".TH membridge"), "{page}");

    // While Claude Code calls a script that would be gone, nothing is taken away.
    let binary = machine.path(".local/bin/membridge");
    let hooks =
        |words: &[&str]| words.iter().fold(machine.program(&binary), |run, word| run.arg(*word)).run();
    std::fs::remove_file(machine.path(".claude-mem-minio/config.env")).unwrap();
    hooks(&["hooks", "install", "--write-settings"]).assert_code(0);
    let there = installed(&machine);
    let refused = uninstall(&machine);
    assert_eq!(refused.code, 1, "{refused:?}");
    refused.stdout_has("membridge hooks uninstall --write-settings");
    assert_eq!(installed(&machine), there);
    hooks(&["hooks", "uninstall", "--write-settings"]).assert_code(0);
    uninstall(&machine).assert_code(0);
    assert_eq!(scripts(&machine), mine);
    let mut after = installed(&machine);
    after.retain(|file| !file.starts_with(".claude/"));
    let mut before = before;
    before.retain(|file| file != ".claude-mem-minio/config.env");
    assert_eq!(after, before);
}

#[test]
fn install_sh_keeps_a_persons_own_scripts_and_gives_them_back() {
    a_persons_own_scripts_are_kept_and_given_back(
        &|machine| _ = install(machine, "").assert_code(0),
        &|machine| install(machine, "--uninstall"),
    );
}

#[test]
fn make_install_keeps_a_persons_own_scripts_and_gives_them_back() {
    let make = |machine: &Machine, action: &str| {
        let run =
            machine.program("/bin/sh").arg(root().join("scripts/install-local.sh")).arg(action).arg(BINARY);
        run.arg(machine.path(".local/bin")).arg(machine.path(".claude-mem-minio/bin")).run()
    };
    a_persons_own_scripts_are_kept_and_given_back(
        &|machine| _ = make(machine, "install").assert_code(0),
        &|machine| make(machine, "uninstall"),
    );
}

#[test]
fn install_sh_says_what_to_type_in_a_clone() {
    let machine = machine();
    machine.write("release/Cargo.toml", "");
    std::fs::copy(root().join("install.sh"), machine.path("release/install.sh")).unwrap();
    install(&machine, "").assert_code(1).stderr_has("this is a clone, not a release: make install");
}

#[test]
fn install_sh_refuses_what_it_cannot_vouch_for() {
    let machine = machine();
    let folder = release(&machine);
    let before = installed(&machine);
    let said = |outcome: Outcome, text: &str| {
        outcome.assert_code(1).stderr_has(text);
        assert_eq!(installed(&machine), before, "{text}");
    };
    said(install(&machine, "--nonsense"), "unknown option");
    let claude = machine.path(".claude/bin").display().to_string();
    said(install(&machine, &format!("--bin-dir {claude}")), "belongs to Claude");
    let other = machine.program("/bin/sh").arg("release/install.sh").env("MEMBRIDGE_MACHINE", "riscv64");
    said(other.run(), "no binary for riscv64");
    let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let wrong = format!("{}{}", "0".repeat(64), &sums[64..]);
    machine.write("release/SHA256SUMS", wrong);
    said(install(&machine, ""), "is not what SHA256SUMS says");
    std::fs::remove_file(folder.join("SHA256SUMS")).unwrap();
    said(install(&machine, ""), "nothing is installed unchecked");
}

#[test]
fn the_shim_is_the_binary_for_programs_and_for_importers() {
    let server = S3Server::start();
    let machine = Machine::new("desk", &server);
    let shim = root().join("sqlite_minio_sync.py");
    let Some(interpreter) = python() else { return };
    let python_with = |arguments: &[&str], binary: &str| {
        let mut run = machine.program(&interpreter).env("MEMBRIDGE_BIN", binary);
        run = run.env("PYTHONPATH", root().as_os_str()).env("PYTHONDONTWRITEBYTECODE", "1");
        for argument in arguments {
            run = run.arg(*argument);
        }
        run.run()
    };
    let python = |arguments: &[&str]| python_with(arguments, BINARY);
    let shim = shim.to_str().unwrap();
    python(&[shim, "print_project"]).assert_code(0).stdout_has("canonical_project_id: 6fe2e0f6071ac2bb");
    // The script looked at its first argument only.
    python(&[shim, "print_project", "ignored-arg", "--bogus"]).assert_code(0);
    for arguments in [&[shim, "doctor"][..], &["-c", "import sqlite_minio_sync as s; s.doctor()"]] {
        let broken = python_with(arguments, "/nonexistent");
        broken.assert_code(1).stdout_has("ERROR: cannot run /nonexistent: No such file or directory");
        assert_eq!(broken.stderr, "");
    }
    // Nothing to pull yet: the exit code comes through.
    python(&[shim, "pull_sqlite"]).assert_code(1).stdout_has("nothing to pull");
    python(&["-c", "import sqlite_minio_sync as s; s.pull_sqlite()"])
        .assert_code(1)
        .stdout_has("nothing to pull");
    python(&["-c", "import sqlite_minio_sync as s; print('returned', s.doctor())"])
        .assert_code(0)
        .stdout_has("returned None");
}

fn sh(script: &str) -> std::process::Output {
    let output = Command::new("sh").args(["-euc", script]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn the_deb_holds_the_binary_and_its_papers() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        eprintln!("skipped: this system has no dpkg-deb");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    // Any file does for a binary; packing the real one with its debug information takes a minute.
    let packed = out.path().display();
    sh(&format!("packaging/debian/build.sh install.sh amd64 '{packed}'"));
    let package = std::fs::read_dir(out.path()).unwrap().next().unwrap().unwrap().path();
    let version = env!("CARGO_PKG_VERSION");
    assert!(package.ends_with(Path::new(&format!("membridge_{version}_amd64.deb"))));
    let listed = sh(&format!("dpkg-deb --contents '{}'", package.display())).stdout;
    let listed = String::from_utf8(listed).unwrap();
    for wanted in [
        "./usr/bin/membridge",
        "./usr/share/doc/membridge/copyright",
        "./usr/share/membridge/hooks/claude-mem-hook-pull",
    ] {
        assert!(listed.contains(wanted), "{wanted} is not in\n{listed}");
    }
    assert!(!listed.contains("/home") && !listed.contains("config.env\n"));
}

/// The version comes from Cargo.toml, name and URL from it or from who packages: no address is made up.
#[test]
fn packages_say_what_they_were_told_and_nothing_made_up() {
    let version = env!("CARGO_PKG_VERSION");
    let facts = "unset MEMBRIDGE_URL MEMBRIDGE_MAINTAINER; . packaging/facts.sh; echo \"$version|$description|$maintainer\"";
    let said = String::from_utf8(sh(facts).stdout).unwrap();
    let wanted = format!("{version}|{}|{}", env!("CARGO_PKG_DESCRIPTION"), env!("CARGO_PKG_AUTHORS"));
    assert_eq!(said.trim(), wanted);
    let told = "MEMBRIDGE_URL=https://a.test/b MEMBRIDGE_MAINTAINER='Ann <ann@a.test>'; . packaging/facts.sh; echo \"$url $maintainer\"";
    let said = String::from_utf8(sh(told).stdout).unwrap();
    assert_eq!(said.trim(), "https://a.test/b Ann <ann@a.test>");
    for file in ["packaging/debian/build.sh", "packaging/alpine/APKBUILD.in", "Cargo.toml"] {
        assert!(!read(file).contains("example."), "{file} has a placeholder");
    }
    assert!(read("CHANGELOG.md").contains("## [Unreleased]"));
}

/// Whatever fetches a release by a name asks for the names that a release has.
#[test]
fn binstall_container_and_flake_take_what_is_there() {
    assert!(read("scripts/dist.sh").contains("name=membridge-$version-$target"));
    assert!(read(".github/workflows/release.yml").contains("test \"v$(sed"), "a tag is v and the version");
    let cargo = read("Cargo.toml");
    let (_, binstall) = cargo.split_once("[package.metadata.binstall]").unwrap();
    let url = binstall.lines().find_map(|line| line.strip_prefix("pkg-url = ")).unwrap().trim_matches('"');
    let filled = [
        ("repo", "https://git.test/m"),
        ("version", "1.2.3"),
        ("name", "membridge"),
        ("target", "aarch64-unknown-linux-musl"),
    ];
    let url =
        filled.iter().fold(url.to_owned(), |url, (name, value)| url.replace(&format!("{{ {name} }}"), value));
    assert_eq!(url, "https://git.test/m/releases/download/v1.2.3/membridge-1.2.3-aarch64-unknown-linux-musl");
    assert!(binstall.contains("pkg-fmt = \"bin\""), "a binary, no archive");

    let recipe = read("packaging/container/Containerfile");
    let copied = recipe.lines().find_map(|line| line.strip_prefix("COPY ")).unwrap();
    assert_eq!(copied, "membridge-*-${TARGET} /membridge");
    let flake = read("packaging/nix/flake.nix");
    let flags = read(".cargo/config.toml");
    let flags = flags.lines().find(|line| line.starts_with("LIBSQLITE3_FLAGS")).unwrap();
    assert!(flake.contains(&format!("env.{flags};")), "as in .cargo/config.toml: {flags}");
    // The workflow builds all three.
    let workflow = read(".github/workflows/ci.yml");
    for word in [
        "packaging/container/Containerfile",
        "dir=packaging/nix",
        "aarch64-apple-darwin",
        "x86_64-apple-darwin",
    ] {
        assert!(workflow.contains(word), "{word}");
    }
}

/// Scripts must run where there is no bash.
#[test]
fn shell_scripts_are_posix_sh() {
    let listed =
        sh("ls install.sh scripts/*.sh packaging/*.sh packaging/*/*.sh hooks/claude-mem-* packaging/alpine/APKBUILD.in")
            .stdout;
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.lines().count() >= 14, "{listed}");
    for script in listed.lines() {
        sh(&format!("sh -n '{script}'"));
        let text = read(script);
        for bashism in ["[[ ", "function ", "<<<", "pipefail", "local "] {
            let found =
                text.lines().find(|line| !line.trim_start().starts_with('#') && line.contains(bashism));
            assert!(found.is_none(), "{script} uses {bashism}: {found:?}");
        }
    }
}

/// Every action of the workflows is pinned to a commit, with the release in a comment.
#[test]
fn workflow_actions_are_pinned() {
    let mut pinned = 0;
    for name in ["ci.yml", "release.yml"] {
        for line in read(&format!(".github/workflows/{name}")).lines() {
            let Some((_, action)) = line.split_once("uses: ") else {
                continue;
            };
            let (commit, comment) = action.split_once('@').unwrap().1.split_once(" # v").unwrap();
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
            assert!(!comment.is_empty());
            pinned += 1;
        }
    }
    assert!(pinned >= 5);
}
