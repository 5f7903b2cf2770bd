//! What an installation has to do, from what is there: folders and files that are missing, units that differ, commands.
//! Made first and carried out later, or only shown. Reads; writes nothing.

use std::path::{Path, PathBuf};

use super::env_files::{self, NewKeys};
use super::layout::{Daemon, Layout};
use super::units::{self, Init, Service};
use crate::visible::shell_path;

/// One step.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Make this folder, for us alone.
    Folder(PathBuf),
    /// Write this file, which holds keys: 0600.
    Secret(PathBuf, String),
    /// Write this unit: 0644, or 0755 where it is a script.
    Unit(PathBuf, String, u32),
    /// Run this.
    Run(Vec<&'static str>),
    /// Nothing to do; say so.
    Kept(PathBuf),
    /// For the person to do.
    Say(String),
}

impl Step {
    /// As the plan is shown: never what a file with keys holds.
    pub fn words(&self) -> String {
        match self {
            Self::Folder(path) => format!("make the folder {}", path.display()),
            Self::Secret(path, _) => format!("write {} (0600, with new keys)", path.display()),
            Self::Unit(path, ..) => format!("write {}", path.display()),
            Self::Run(words) => format!("run {}", words.join(" ")),
            Self::Kept(path) => format!("keep {} as it is", path.display()),
            Self::Say(words) => words.clone(),
        }
    }

    /// Whether it changes anything.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Kept(_) | Self::Say(_))
    }
}

/// What the plan is made for.
#[derive(Clone)]
pub struct Wanted<'a> {
    /// Which daemons.
    pub daemons: &'a [Daemon],
    /// Where.
    pub layout: &'a Layout,
    /// Who starts services.
    pub init: Init,
    /// The binary.
    pub binary: &'a Path,
    /// Whom services of the whole machine run as.
    pub user: &'a str,
    /// Keys for new files.
    pub keys: &'a NewKeys,
}

/// The steps.
pub fn steps(wanted: &Wanted<'_>) -> Vec<Step> {
    let layout = wanted.layout;
    let mut steps = Vec::new();
    if !layout.dir.is_dir() {
        steps.push(Step::Folder(layout.dir.clone()));
    }
    for daemon in wanted.daemons {
        let file = layout.env_file(*daemon);
        // A file of the Python product says nothing of the address; ours does.
        let inherited = std::fs::read_to_string(&file)
            .is_ok_and(|text| !text.lines().any(|line| line.trim_start().starts_with("MEMBRIDGE_HOST=")));
        if file.exists() {
            steps.push(Step::Kept(file));
        } else {
            let text = env_files::text(*daemon, layout, wanted.keys, agent_key(wanted).as_deref());
            steps.push(Step::Secret(file, text));
        }
        steps.extend(service(wanted, *daemon, inherited));
    }
    steps
}

/// The agents' key: that of the server of this machine, where there is one, or is about to be.
fn agent_key(wanted: &Wanted<'_>) -> Option<String> {
    let there = std::fs::read_to_string(wanted.layout.env_file(Daemon::Server)).ok();
    match there {
        Some(text) => env_files::agent_key(&text).map(str::to_owned),
        None => wanted.daemons.contains(&Daemon::Server).then(|| wanted.keys.agent.clone()),
    }
}

fn service(wanted: &Wanted<'_>, daemon: Daemon, inherited: bool) -> Vec<Step> {
    let layout = wanted.layout;
    let Some(place) = units::place(wanted.init, daemon, layout) else {
        let (binary, file) = (shell_path(wanted.binary), shell_path(&layout.env_file(daemon)));
        return vec![Step::Say(format!(
            "no service is set up; to start it: {binary} {} --env-file {}",
            daemon.command(),
            file
        ))];
    };
    let service = Service { daemon, layout, binary: wanted.binary, user: wanted.user, inherited };
    let text = units::text(wanted.init, &service);
    if std::fs::read_to_string(&place).is_ok_and(|there| there == text) {
        return vec![Step::Kept(place)];
    }
    let mode = if wanted.init == Init::OpenRc { 0o755 } else { 0o644 };
    let mut steps = vec![Step::Unit(place, text, mode)];
    steps.extend(units::start(wanted.init, daemon).into_iter().map(Step::Run));
    if wanted.init == Init::User {
        let words = "to keep it running while nobody is logged in: loginctl enable-linger";
        steps.push(Step::Say(words.to_owned()));
    }
    if inherited {
        steps.push(Step::Say(format!(
            "{} listens on all addresses, as before; MEMBRIDGE_HOST in {} says otherwise",
            daemon.service(),
            layout.env_file(daemon).display()
        )));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::{Step, Wanted, steps};
    use crate::setup::env_files::NewKeys;
    use crate::setup::layout::{Daemon, Layout};
    use crate::setup::units::Init;
    use std::path::Path;

    #[test]
    fn what_is_there_is_kept_and_the_rest_is_made() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::new(home.path(), None);
        let keys = NewKeys { admin: "a".repeat(48), agent: "b".repeat(48) };
        let wanted = Wanted {
            daemons: &[Daemon::Server, Daemon::Agent],
            layout: &layout,
            init: Init::User,
            binary: Path::new("/bin/membridge"),
            user: "ann",
            keys: &keys,
        };
        let first = steps(&wanted);
        assert!(first.iter().all(|step| !step.words().contains(&keys.admin)), "a plan shows no key");
        let secrets = first.iter().filter(|step| matches!(step, Step::Secret(..))).count();
        assert_eq!(secrets, 2);
        for step in &first {
            match step {
                Step::Folder(path) => std::fs::create_dir_all(path).unwrap(),
                Step::Secret(path, text) | Step::Unit(path, text, _) => {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, text).unwrap();
                }
                _ => {}
            }
        }
        let agent = std::fs::read_to_string(layout.env_file(Daemon::Agent)).unwrap();
        assert!(agent.contains(&keys.agent) && !agent.contains(&keys.admin));
        let again: Vec<_> =
            steps(&wanted).into_iter().filter(Step::changes).map(|step| step.words()).collect();
        assert_eq!(again, [""; 0]);
        // An env file of the Python product stays, and its unit goes on listening to all.
        std::fs::write(layout.env_file(Daemon::Agent), "MEMBRIDGE_AGENT_KEY=k\n").unwrap();
        let inherited = steps(&wanted);
        let unit = inherited.iter().find_map(|step| match step {
            Step::Unit(_, text, _) => Some(text.as_str()),
            _ => None,
        });
        assert!(unit.unwrap().contains("MEMBRIDGE_HOST=0.0.0.0"));
        assert!(!inherited.iter().any(|step| matches!(step, Step::Secret(..))));
        let nobody = Wanted { init: Init::Nobody, ..wanted };
        assert!(steps(&nobody).iter().any(|step| step.words().contains("--env-file")));
    }
}
