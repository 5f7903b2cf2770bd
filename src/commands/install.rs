//! `install`: sets the daemons up, looks at what an old installation left, stops them. What it will do is a plan, which
//! `--dry-run` only shows. `validate-install` asks whether all is well.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{User, getuid};

use super::run::Run;
use crate::cli::{InstallMode, InstallOptions};
use crate::config::{self, env_file};
use crate::context::hex;
use crate::error::{Code, CommandResult, Failure};
use crate::exit::ExitCode;
use crate::outcome::Outcome;
use crate::private_files::{make_private_folder, write_private};
use crate::setup::env_files::NewKeys;
use crate::setup::layout::{Daemon, Layout};
use crate::setup::plan::{Step, Wanted, steps};
use crate::setup::units::{self, Init};
use crate::setup::{legacy, validate};
use crate::storage::records::iso;
use crate::ui::Report;
use crate::visible::shell_path;

pub(super) async fn run(run: &Run, options: &InstallOptions) -> CommandResult<Report> {
    let person = Person::find(run);
    let layout = Layout::new(&person.home, run.environment.get("MEMBRIDGE_DIR"));
    match options.mode {
        InstallMode::Agent => install(run, &person, &layout, &[Daemon::Agent], options.dry_run),
        InstallMode::Server => install(run, &person, &layout, &[Daemon::Server], options.dry_run),
        InstallMode::All => install(run, &person, &layout, &[Daemon::Server, Daemon::Agent], options.dry_run),
        InstallMode::Migrate => migrate(run, &layout, options.dry_run).await,
        InstallMode::Cleanup => Ok(cleanup(run, &layout, options.dry_run)),
    }
}

/// For whom services run: whoever called sudo, else whoever calls us.
struct Person {
    name: String,
    home: PathBuf,
}

impl Person {
    fn find(run: &Run) -> Self {
        let caller = run.environment.get("SUDO_USER").filter(|_| getuid().is_root());
        let known = match caller {
            Some(name) => User::from_name(name).ok().flatten(),
            None => None,
        };
        if let Some(user) = known {
            return Self { name: user.name, home: user.dir };
        }
        let name = User::from_uid(getuid()).ok().flatten().map(|user| user.name);
        let home = run.environment.home().unwrap_or(Path::new("/")).to_owned();
        Self { name: name.unwrap_or_else(|| "root".to_owned()), home }
    }
}

fn init() -> Init {
    let there = |path: &str| Path::new(path).is_dir();
    units::init(there("/run/systemd/system"), there("/run/openrc"), getuid().is_root())
}

fn install(
    run: &Run,
    person: &Person,
    layout: &Layout,
    daemons: &[Daemon],
    dry_run: bool,
) -> CommandResult<Report> {
    let binary = std::env::current_exe()
        .map_err(|error| Failure::of(Code::LocalFile, format!("cannot find this binary: {error}")))?;
    let keys = NewKeys { admin: key()?, agent: key()? };
    let plan =
        steps(&Wanted { daemons, layout, init: init(), binary: &binary, user: &person.name, keys: &keys });
    for step in &plan {
        let prefix = if dry_run && step.changes() { "[DRY-RUN] would " } else { "" };
        run.ui.line(format!("{prefix}{}", step.words()));
        if !dry_run {
            carry_out(run, step)?;
        }
    }
    run.ui.line("never touched:");
    for path in layout.protected() {
        run.ui.line(format!("  {}", path.display()));
    }
    for daemon in daemons {
        run.ui.line(format!("health: curl http://127.0.0.1:{}/health", daemon.port()));
    }
    run.ui.line("next: put the server's MEMBRIDGE_AGENT_KEY into .env.agent of each machine; then membridge validate-install");
    let changed: Vec<String> = plan.iter().filter(|step| step.changes()).map(Step::words).collect();
    Ok(Report::ok(Outcome::Installed).with("dry_run", dry_run).with("steps", changed))
}

/// 48 hex digits.
fn key() -> CommandResult<String> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::of(Code::NoRandomness, format!("no random numbers: {error}")))?;
    Ok(hex(&bytes))
}

fn carry_out(run: &Run, step: &Step) -> CommandResult {
    let cannot = |path: &Path, error: std::io::Error| {
        let folder = path.parent().unwrap_or(Path::new("/"));
        Failure::of(Code::LocalFile, format!("cannot write {}: {error}", path.display()))
            .hint(format!("check the rights: ls -ld {}", shell_path(folder)))
    };
    match step {
        Step::Folder(path) => make_private_folder(path).map_err(|error| cannot(path, error)),
        Step::Secret(path, text) => write_private(path, text.as_bytes()).map_err(|error| cannot(path, error)),
        Step::Unit(path, text, mode) => {
            let readable = || {
                std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
                write_private(path, text.as_bytes())?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))
            };
            readable().map_err(|error| cannot(path, error))
        }
        // A service manager that does not obey leaves everything in place: the person types it.
        Step::Run(words) => {
            if let Err(problem) = call(words) {
                run.ui.warn(format!("{problem}; to do it by hand: {}", words.join(" ")));
            }
            Ok(())
        }
        Step::Kept(_) | Step::Say(_) => Ok(()),
    }
}

fn call(words: &[&str]) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("nothing to run")?;
    match std::process::Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{program} ended with {}: {said}", output.status))
        }
        Err(error) => Err(format!("{program} cannot be run: {error}")),
    }
}

async fn migrate(run: &Run, layout: &Layout, dry_run: bool) -> CommandResult<Report> {
    let host = config::node(&run.settings)?.host;
    let at = iso(run.context.now());
    let found = legacy::survey(layout, &host, run.settings.get("PATH"), &at).await;
    for line in &found.lines {
        run.ui.line(line);
    }
    let path = layout.report();
    if dry_run {
        run.ui.line(format!("[DRY-RUN] would write {}", path.display()));
    } else {
        let text = format!("{:#}\n", found.report);
        write_private(&path, text.as_bytes()).map_err(|error| {
            Failure::of(Code::LocalFile, format!("cannot write {}: {error}", path.display()))
        })?;
        run.ui.line(format!("report: {}", path.display()));
    }
    run.ui.line("nothing else was changed; next: membridge install agent");
    Ok(Report::ok(Outcome::Shown).with("dry_run", dry_run).with("report", found.report))
}

/// Stops the services. claude-mem's worker is claude-mem's business, and nothing is deleted.
fn cleanup(run: &Run, layout: &Layout, dry_run: bool) -> Report {
    let init = init();
    let mut stopped = Vec::new();
    for daemon in [Daemon::Agent, Daemon::Server] {
        let there = units::place(init, daemon, layout).is_some_and(|place| place.exists());
        let Some(words) = units::stop(init, daemon).filter(|_| there) else {
            run.ui.line(format!("{} is not set up as a service", daemon.service()));
            continue;
        };
        if dry_run {
            run.ui.line(format!("[DRY-RUN] would run {}", words.join(" ")));
        } else if let Err(problem) = call(&words) {
            run.ui.warn(problem);
        } else {
            run.ui.line(format!("{} stopped", daemon.service()));
        }
        stopped.push(daemon.service());
    }
    run.ui.line("nothing was deleted");
    Report::ok(Outcome::Stopped).with("dry_run", dry_run).with("services", stopped)
}

/// Ends with 0 only when all is well.
pub(super) async fn validate(run: &Run) -> CommandResult<Report> {
    let layout = Layout::new(&run.settings.home, run.environment.get("MEMBRIDGE_DIR"));
    let text = std::fs::read(layout.config_env()).ok();
    let home = run.settings.home.display().to_string();
    let lookup = |name: &str| (name == "HOME").then(|| home.clone());
    let config = text.and_then(|text| env_file::parse(text, lookup).ok());
    let port = run.environment.get("MEMBRIDGE_SERVER_PORT").and_then(|port| port.parse().ok());
    let checks = validate::checks(&validate::Machine {
        layout: &layout,
        path: run.settings.get("PATH"),
        config,
        server_host: run.environment.get("MEMBRIDGE_SERVER_HOST").unwrap_or("127.0.0.1"),
        server_port: port.unwrap_or(Daemon::Server.port()),
    })
    .await;
    for check in &checks {
        run.ui.line(format!("{} {}: {}", if check.ok { "[OK]" } else { "[!!]" }, check.name, check.detail));
    }
    let host = config::node(&run.settings)?.host;
    let whole = validate::report(&checks, &host, &iso(run.context.now()));
    run.ui.line("--- JSON Report ---");
    run.ui.verbatim(&format!("{whole:#}\n"));
    let mut report = Report::ok(Outcome::Checked).with("report", whole);
    if !checks.iter().all(|check| check.ok) {
        report.exit = ExitCode::Error;
    }
    Ok(report)
}
