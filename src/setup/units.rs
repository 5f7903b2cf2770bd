//! The units with which systemd and OpenRC start the daemons. Pure text.

use std::path::{Path, PathBuf};

use super::layout::{Daemon, Layout};
use crate::visible::{shell_path, shell_word};

/// Who starts services here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// systemd, for the whole machine.
    System,
    /// systemd, for this user.
    User,
    /// OpenRC.
    OpenRc,
    /// Nobody that we know, or nobody that we may tell.
    Nobody,
}

/// Who that is: by the folders that a running init system makes. `root`: we are.
pub fn init(systemd: bool, openrc: bool, root: bool) -> Init {
    match (systemd, openrc, root) {
        (true, _, true) => Init::System,
        (true, _, false) => Init::User,
        (false, true, true) => Init::OpenRc,
        (false, ..) => Init::Nobody,
    }
}

/// Where a unit goes.
pub fn place(init: Init, daemon: Daemon, layout: &Layout) -> Option<PathBuf> {
    let service = daemon.service();
    match init {
        Init::System => Some(Path::new("/etc/systemd/system").join(format!("{service}.service"))),
        Init::User => Some(layout.home.join(format!(".config/systemd/user/{service}.service"))),
        Init::OpenRc => Some(Path::new("/etc/init.d").join(service)),
        Init::Nobody => None,
    }
}

/// What a unit needs to know.
#[derive(Debug, Clone)]
pub struct Service<'a> {
    /// Which.
    pub daemon: Daemon,
    /// The places.
    pub layout: &'a Layout,
    /// The binary.
    pub binary: &'a Path,
    /// Whom it runs as, in a unit of the whole machine.
    pub user: &'a str,
    /// Its env file was there before: then it goes on listening to all, as the Python product's did.
    pub inherited: bool,
}

/// The text of a unit.
pub fn text(init: Init, service: &Service<'_>) -> String {
    match init {
        Init::OpenRc => openrc(service),
        Init::System | Init::User | Init::Nobody => systemd(init, service),
    }
}

fn systemd(init: Init, service: &Service<'_>) -> String {
    let command = service.daemon.command();
    let env_file = service.layout.env_file(service.daemon);
    let host = if service.inherited { "Environment=MEMBRIDGE_HOST=0.0.0.0\n" } else { "" };
    let (user, wanted) = match init {
        Init::System => (
            format!(
                "User={}\nEnvironment=\"HOME={}\"\n",
                service.user,
                unit_text(&service.layout.home.display().to_string())
            ),
            "multi-user.target",
        ),
        _ => (String::new(), "default.target"),
    };
    format!(
        "[Unit]\n\
         Description=membridge {command}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         {user}{host}\
         EnvironmentFile={}\n\
         ExecStart={} {command}\n\
         Restart=always\n\
         RestartSec=5\n\
         # A job that runs is waited for, and not told to end.\n\
         KillMode=mixed\n\
         TimeoutStopSec=90\n\
         UMask=0077\n\
         \n\
         [Install]\n\
         WantedBy={wanted}\n",
        unit_text(&env_file.display().to_string()),
        unit_word(&service.binary.display().to_string()),
    )
}

/// A value of a unit: systemd reads `%` as the beginning of a specifier.
fn unit_text(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word of a unit's command, which systemd takes apart as a shell would, and where it knows variables.
fn unit_word(text: &str) -> String {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$");
    format!("\"{}\"", unit_text(&quoted))
}

fn openrc(service: &Service<'_>) -> String {
    let command = service.daemon.command();
    let host = if service.inherited { "export MEMBRIDGE_HOST=\"${MEMBRIDGE_HOST:-0.0.0.0}\"\n" } else { "" };
    format!(
        "#!/sbin/openrc-run\n\
         name=\"membridge {command}\"\n\
         supervisor=supervise-daemon\n\
         command={}\n\
         command_args={}\n\
         command_user={}\n\
         {host}\
         supervise_daemon_args={}\n\
         respawn_delay=5\n\
         umask=077\n\
         retry=\"TERM/90/KILL/5\"\n\
         \n\
         depend() {{\n    use net\n    after firewall\n}}\n",
        shell_path(service.binary),
        // OpenRC evaluates these two once more.
        shell_word(&format!("{command} --env-file {}", shell_path(&service.layout.env_file(service.daemon)))),
        shell_word(service.user),
        shell_word(&format!("--env HOME={}", shell_path(&service.layout.home))),
    )
}

/// The commands that make a new or changed unit run.
pub fn start(init: Init, daemon: Daemon) -> Vec<Vec<&'static str>> {
    let service = daemon.service();
    match init {
        Init::System => vec![
            vec!["systemctl", "daemon-reload"],
            vec!["systemctl", "enable", service],
            vec!["systemctl", "restart", service],
        ],
        Init::User => vec![
            vec!["systemctl", "--user", "daemon-reload"],
            vec!["systemctl", "--user", "enable", service],
            vec!["systemctl", "--user", "restart", service],
        ],
        Init::OpenRc => vec![vec!["rc-update", "add", service], vec!["rc-service", service, "restart"]],
        Init::Nobody => Vec::new(),
    }
}

/// The command that stops a service.
pub fn stop(init: Init, daemon: Daemon) -> Option<Vec<&'static str>> {
    let service = daemon.service();
    match init {
        Init::System => Some(vec!["systemctl", "stop", service]),
        Init::User => Some(vec!["systemctl", "--user", "stop", service]),
        Init::OpenRc => Some(vec!["rc-service", service, "stop"]),
        Init::Nobody => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Init, Service, init, place, text};
    use crate::setup::layout::{Daemon, Layout};
    use std::path::Path;

    #[test]
    fn who_starts_services() {
        let table = [
            (true, false, true, Init::System),
            (true, false, false, Init::User),
            (false, true, true, Init::OpenRc),
            (false, true, false, Init::Nobody),
            (false, false, true, Init::Nobody),
        ];
        for (systemd, openrc, root, expected) in table {
            assert_eq!(init(systemd, openrc, root), expected);
        }
    }

    #[test]
    fn an_old_fleet_goes_on_listening_and_a_new_one_begins_on_loopback() {
        let layout = Layout::new(Path::new("/home/ann"), None);
        let service = |inherited| Service {
            daemon: Daemon::Agent,
            layout: &layout,
            binary: Path::new("/home/ann/.local/bin/membridge"),
            user: "ann",
            inherited,
        };
        for init in [Init::System, Init::User, Init::OpenRc] {
            assert!(text(init, &service(true)).contains("MEMBRIDGE_HOST"), "{init:?}");
            let new = text(init, &service(false));
            assert!(!new.contains("MEMBRIDGE_HOST"), "{init:?}");
            assert!(new.contains("/home/ann/membridge/.env.agent") && new.contains("membridge"), "{new}");
            assert!(place(init, Daemon::Agent, &layout).is_some());
        }
        // A folder is no program to whoever reads the unit.
        let odd = Layout::new(Path::new("/home/ann's $(x) 5%"), None);
        let binary = Path::new("/home/ann's \"$(x)\" 5%/membridge");
        let service_of = |inherited| Service { layout: &odd, binary, ..service(inherited) };
        let unit = text(Init::User, &service_of(false));
        assert!(unit.contains(r#"ExecStart="/home/ann's \"$$(x)\" 5%%/membridge" agent"#), "{unit}");
        assert!(unit.contains("EnvironmentFile=/home/ann's $(x) 5%%/membridge/.env.agent\n"), "{unit}");
        let script = text(Init::OpenRc, &service_of(false)).replace("#!/sbin/openrc-run", "");
        let ask = r#"for word in "$command"; do printf '%s\n' "$word"; done; eval "set -- $command_args"; printf '%s\n' "$@""#;
        let said =
            std::process::Command::new("sh").arg("-c").arg(format!("{script}\n{ask}")).output().unwrap();
        let expected = "/home/ann's \"$(x)\" 5%/membridge\nagent\n--env-file\n/home/ann's $(x) 5%/membridge/.env.agent\n";
        assert_eq!(String::from_utf8_lossy(&said.stdout), expected);
        // What comes later in a unit wins: the env file may say another address.
        let unit = text(Init::User, &service(true));
        assert!(unit.find("Environment=MEMBRIDGE_HOST") < unit.find("EnvironmentFile="));
    }
}
