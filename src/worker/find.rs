//! Where claude-mem is on this machine: data directory, ports to ask, plugin, runtime, version. Reads files and
//! asks nobody; the rules and their order are claude-mem's own, as its releases have them (facts.rs).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::facts::{self, Patience, Version};
use super::http::Endpoint;
use super::settings::ClaudeMemSettings;
use crate::config::{Config, Paths, WorkerConfig};

/// claude-mem on this machine, as far as files tell.
#[derive(Debug, Clone)]
pub struct Site {
    /// claude-mem's data directory.
    pub data_dir: PathBuf,
    /// The database that we sync.
    pub database: PathBuf,
    /// Its settings.
    pub settings: ClaudeMemSettings,
    /// How long each step may take.
    pub patience: Patience,
    /// Texts that must not reach the worker's environment.
    pub(super) secrets: Vec<String>,
    config: WorkerConfig,
}

impl Site {
    /// For a checked configuration.
    pub fn of(config: &Config) -> Self {
        let mut site = Self::new(&config.paths, &config.worker, &config.database);
        if let crate::config::StoreConfig::S3(s3) = &config.store {
            site.secrets = [&s3.access_key, &s3.secret_key].map(|secret| secret.reveal().to_owned()).into();
        }
        site
    }

    /// For half a configuration, as doctor may have it.
    pub fn new(paths: &Paths, worker: &WorkerConfig, database: &Path) -> Self {
        let usual = paths.home.join(".claude-mem");
        let first = ClaudeMemSettings::read(&usual.join("settings.json"));
        let data_dir =
            paths.data_dir.clone().or_else(|| first.data_dir(&paths.home)).unwrap_or_else(|| usual.clone());
        let settings =
            if data_dir == usual { first } else { ClaudeMemSettings::read(&data_dir.join("settings.json")) };
        Self {
            data_dir,
            database: database.to_owned(),
            settings,
            patience: Patience::default(),
            secrets: Vec::new(),
            config: worker.clone(),
        }
    }

    /// Says that the projects of the database are named already: a worker that finds another machine's memory at its first
    /// start would rename them by the folders of this one.
    ///
    /// # Errors
    /// The data directory cannot be written.
    pub fn keep_projects(&self, now: jiff::Timestamp) -> std::io::Result<()> {
        crate::private_files::make_private_folder(&self.data_dir)?;
        let path = self.data_dir.join(facts::REMAPPED);
        if path.exists() {
            return Ok(());
        }
        crate::private_files::write_private(&path, format!("{now:.3}\n").as_bytes())
    }

    /// What `worker.pid` says.
    pub fn pid_file(&self) -> PidFile {
        match std::fs::read(self.data_dir.join("worker.pid")) {
            Ok(bytes) => PidFile::parse(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => PidFile::Missing,
            Err(_) => PidFile::Damaged,
        }
    }

    /// Where the worker may listen, most likely first. A port in our own configuration is the only one; otherwise
    /// all places are worth a look, because settings.json carries the default port of the release that wrote it.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let pid_port = match self.pid_file() {
            PidFile::Says { port, .. } => port,
            PidFile::Missing | PidFile::Damaged => None,
        };
        let uid = nix::unistd::getuid().as_raw();
        let host = host(&self.config.host, self.settings.get("CLAUDE_MEM_WORKER_HOST"));
        ports(self.config.port, self.settings.port(), pid_port, uid)
            .into_iter()
            .map(|port| Endpoint { host: host.clone(), port })
            .collect()
    }

    /// The worker's script: as configured, else the one that `ran`, else that of the installed plugin.
    pub fn script(&self, ran: Option<&Path>) -> Option<PathBuf> {
        let installed = || Some(self.plugin()?.0.join(facts::WORKER_SCRIPT));
        (self.config.script.clone())
            .or_else(|| ran.filter(|path| path.is_file()).map(Path::to_owned))
            .or_else(installed)
            .filter(|path| path.is_file())
    }

    /// The runtime: the one that `ran`, else the first that is there.
    pub fn runtime(&self, ran: Option<&Path>) -> Option<PathBuf> {
        let is_bun = |path: &&Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("bun")) && path.is_file()
        };
        ran.filter(is_bun)
            .map(Path::to_owned)
            .or_else(|| self.config.runtimes.iter().find(|path| path.is_file()).cloned())
    }

    /// The version of the installed plugin, which is what the next worker will be.
    pub fn installed_version(&self) -> Option<String> {
        let (plugin, version) = self.plugin()?;
        version.or_else(|| package_version(&plugin))
    }

    /// The directory of the installed plugin, with its version where the directory's name says it.
    fn plugin(&self) -> Option<(PathBuf, Option<String>)> {
        let plugins = self.config.claude_dir.join("plugins");
        let cache = plugins.join("cache/thedotmack/claude-mem");
        let entries = std::fs::read_dir(&cache).into_iter().flatten().flatten();
        let newest = newest(entries.filter_map(|entry| {
            let usable = entry.path().is_dir() && !entry.path().join(".orphaned_at").exists();
            entry.file_name().into_string().ok().filter(|_| usable)
        }));
        if let Some(name) = newest {
            return Some((cache.join(&name), Some(name)));
        }
        let market = plugins.join("marketplaces/thedotmack/plugin");
        market.is_dir().then_some((market, None))
    }
}

/// What `worker.pid` says. A hint only: it goes stale, and it lies (#451, #2578).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidFile {
    /// There is none.
    Missing,
    /// It cannot be read, or names no process that could be a worker.
    Damaged,
    /// A process that may or may not be the worker.
    Says {
        /// Greater than 1.
        pid: i32,
        /// Port, where it is one.
        port: Option<u16>,
        /// Start ticks of the process (12.3.8 and later).
        start_ticks: Option<u64>,
    },
}

impl PidFile {
    /// Understands the file's bytes, which may be anything.
    pub fn parse(bytes: &[u8]) -> Self {
        let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(bytes) else {
            return Self::Damaged;
        };
        let pid = fields.get("pid").and_then(Value::as_i64);
        let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1) else {
            return Self::Damaged;
        };
        let port = fields.get("port").and_then(Value::as_u64);
        let start = fields.get("startToken").and_then(Value::as_str);
        Self::Says {
            pid,
            port: port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
            start_ticks: start.and_then(|token| token.parse().ok()),
        }
    }
}

/// The ports to ask, in order, without repeats.
fn ports(configured: Option<u16>, in_settings: Option<u16>, in_pid_file: Option<u16>, uid: u32) -> Vec<u16> {
    if let Some(port) = configured {
        return vec![port];
    }
    let last = [facts::port_of_user(uid), facts::OLD_PORT];
    let mut ports = Vec::new();
    for port in in_settings.into_iter().chain(in_pid_file).chain(last) {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

/// The host to ask: ours where it was configured, else claude-mem's; an address to listen on everywhere is reached
/// over loopback.
fn host(configured: &str, in_settings: Option<String>) -> String {
    let host = if configured == "127.0.0.1" {
        in_settings.unwrap_or_else(|| configured.to_owned())
    } else {
        configured.to_owned()
    };
    match host.trim_matches(['[', ']']) {
        "0.0.0.0" | "" => "127.0.0.1".to_owned(),
        "::" => "::1".to_owned(),
        host => host.to_owned(),
    }
}

/// The highest version among directory names; names that are no version do not count.
fn newest(names: impl Iterator<Item = String>) -> Option<String> {
    let key = |name: &String| -> Option<(Version, bool)> {
        // A release beats its own pre-releases.
        Some((facts::version(name)?, !name.contains('-')))
    };
    names.filter(|name| key(name).is_some()).max_by_key(key)
}

fn package_version(plugin: &Path) -> Option<String> {
    let bytes = std::fs::read(plugin.join("package.json")).ok()?;
    let package: Value = serde_json::from_slice(&bytes).ok()?;
    package.get("version")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{PidFile, Site, host, newest, ports};
    use crate::config::{Environment, Paths, Settings, worker};
    use std::collections::BTreeMap;
    use std::path::Path;

    fn site(home: &Path, variables: &[(&str, &str)]) -> Site {
        let mut values: Vec<(String, String)> = vec![("HOME".into(), home.to_str().unwrap().into())];
        values.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let environment = Environment::from_values(values);
        let settings = Settings::load(&BTreeMap::new(), &environment, None).unwrap();
        let worker = worker(&settings).unwrap();
        Site::new(&Paths::new(&settings), &worker, &home.join("db"))
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn f34_a_pid_file_may_hold_anything() {
        let says = |pid, port, start_ticks| PidFile::Says { pid, port, start_ticks };
        let table = [
            (r#"{"pid": 4242, "port": 37777, "startedAt": "x"}"#, says(4242, Some(37_777), None)),
            (r#"{"pid": 4242, "port": 1, "startToken": "155136"}"#, says(4242, Some(1), Some(155_136))),
            (r#"{"pid": 4242, "port": 99999, "startToken": 5}"#, says(4242, None, None)),
            (r#"{"pid": 4242, "port": "x"}"#, says(4242, None, None)),
            (r#"{"pid": 1}"#, PidFile::Damaged),
            (r#"{"pid": 0}"#, PidFile::Damaged),
            (r#"{"pid": -1}"#, PidFile::Damaged),
            (r#"{"pid": 4294967297}"#, PidFile::Damaged),
            (r#"{"pid": "4242"}"#, PidFile::Damaged),
            (r#"{"pid": 4242.5}"#, PidFile::Damaged),
            ("-1", PidFile::Damaged),
            ("4242", PidFile::Damaged),
            ("\"x\"", PidFile::Damaged),
            ("[4242]", PidFile::Damaged),
            ("{}", PidFile::Damaged),
            ("", PidFile::Damaged),
            ("\u{0}\u{0}", PidFile::Damaged),
        ];
        for (text, expected) in table {
            assert_eq!(PidFile::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn ports_are_asked_in_the_order_of_claude_mem() {
        let table = [
            ((Some(5), Some(6), Some(7), 1001), vec![5]),
            ((None, Some(6), Some(7), 1001), vec![6, 7, 37_701, 37_777]),
            ((None, None, Some(7), 1001), vec![7, 37_701, 37_777]),
            ((None, Some(37_777), Some(37_777), 77), vec![37_777]),
            ((None, None, None, 1000), vec![37_700, 37_777]),
        ];
        for ((configured, settings, pid_file, uid), expected) in table {
            assert_eq!(ports(configured, settings, pid_file, uid), expected);
        }
    }

    #[test]
    fn a_host_to_listen_on_becomes_a_host_to_ask() {
        let table = [
            ("127.0.0.1", None, "127.0.0.1"),
            ("127.0.0.1", Some("0.0.0.0"), "127.0.0.1"),
            ("127.0.0.1", Some("::"), "::1"),
            ("127.0.0.1", Some("192.168.1.5"), "192.168.1.5"),
            ("localhost", Some("192.168.1.5"), "localhost"),
            ("[::1]", None, "::1"),
        ];
        for (configured, settings, expected) in table {
            assert_eq!(host(configured, settings.map(str::to_owned)), expected);
        }
    }

    #[test]
    fn the_newest_plugin_wins_by_number_not_by_letter() {
        let table: [(&[&str], Option<&str>); 4] = [
            (&["9.1.1", "13.2.0", "13.10.0"], Some("13.10.0")),
            (&["13.0.0-beta", "13.0.0"], Some("13.0.0")),
            (&["latest", "tmp"], None),
            (&[], None),
        ];
        for (names, expected) in table {
            let names = names.iter().map(|name| (*name).to_owned());
            assert_eq!(newest(names).as_deref(), expected);
        }
    }

    #[test]
    fn the_data_directory_comes_from_the_variable_then_the_settings_then_the_home() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(site(home.path(), &[]).data_dir, home.path().join(".claude-mem"));
        write(
            &home.path().join(".claude-mem/settings.json"),
            "\u{feff}{\"env\": {\"CLAUDE_MEM_DATA_DIR\": \"~/elsewhere\"}}",
        );
        write(&home.path().join("elsewhere/settings.json"), r#"{"CLAUDE_MEM_WORKER_PORT": "40001"}"#);
        let found = site(home.path(), &[]);
        assert_eq!(found.data_dir, home.path().join("elsewhere"));
        assert_eq!(found.settings.port(), Some(40_001));
        let told = site(home.path(), &[("CLAUDE_MEM_DATA_DIR", "/srv/mem")]);
        assert_eq!(told.data_dir, Path::new("/srv/mem"));
    }

    #[test]
    fn orphaned_plugins_do_not_count_and_the_marketplace_is_the_last_resort() {
        let home = tempfile::tempdir().unwrap();
        let plugins = home.path().join(".claude/plugins");
        let script = "scripts/worker-service.cjs";
        assert_eq!(site(home.path(), &[]).script(None), None);

        let market = plugins.join("marketplaces/thedotmack/plugin");
        write(&market.join(script), "");
        write(&market.join("package.json"), r#"{"version": "13.1.0"}"#);
        let found = site(home.path(), &[]);
        assert_eq!(found.script(None), Some(market.join(script)));
        assert_eq!(found.installed_version().as_deref(), Some("13.1.0"));

        let cache = plugins.join("cache/thedotmack/claude-mem");
        for version in ["13.9.0", "13.10.0", "13.11.0"] {
            write(&cache.join(version).join(script), "");
        }
        write(&cache.join("13.11.0/.orphaned_at"), "");
        assert_eq!(found.script(None), Some(cache.join("13.10.0").join(script)));
        assert_eq!(found.installed_version().as_deref(), Some("13.10.0"));
        // What ran is started again, unless an upgrade removed it.
        let ran = cache.join("13.9.0").join(script);
        assert_eq!(found.script(Some(&ran)), Some(ran));
        assert_eq!(
            found.script(Some(Path::new("/gone/worker.cjs"))),
            Some(cache.join("13.10.0").join(script))
        );
    }

    #[test]
    fn the_runtime_is_the_one_that_ran_then_path_then_the_variables_then_the_home() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(site(home.path(), &[]).runtime(None), None);
        let at_home = home.path().join(".bun/bin/bun");
        write(&at_home, "");
        assert_eq!(site(home.path(), &[]).runtime(None), Some(at_home));
        let (path, named) = (home.path().join("bin/bun"), home.path().join("opt/bun"));
        write(&named, "");
        let variables = [
            ("PATH", home.path().join("bin").to_str().unwrap().to_owned()),
            ("BUN", named.to_str().unwrap().to_owned()),
        ];
        let variables: Vec<_> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(site(home.path(), &variables).runtime(None), Some(named.clone()));
        write(&path, "");
        let found = site(home.path(), &variables);
        assert_eq!(found.runtime(None), Some(path.clone()));
        assert_eq!(found.runtime(Some(&named)), Some(named));
        // A worker that ran under something else is no bun.
        assert_eq!(found.runtime(Some(Path::new("/bin/sh"))), Some(path));
    }
}
