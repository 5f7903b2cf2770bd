//! What people could use instead: whole files by Python, rclone, restic. Each is measured where it is installed.

use std::path::{Path, PathBuf};

use super::Bucket;
use super::samples::Cost;
use super::support::machine::Machine;
use super::support::usage;

pub const PYTHON: &str = "Python, whole files";
pub const RCLONE: &str = "rclone, whole file";
pub const RESTIC: &str = "restic";

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/bench/baseline.py");

/// Where they are; `None`: not installed.
pub struct Peers {
    python: Option<PathBuf>,
    rclone: Option<PathBuf>,
    restic: Option<PathBuf>,
}

impl Peers {
    /// Python with boto3, and rclone, in the folder that scripts/bench.sh made; restic of the system.
    pub fn find() -> Peers {
        let tools = std::env::var_os("BENCH_TOOLS").map(PathBuf::from);
        let tool = |name: &str| tools.as_ref().map(|tools| tools.join(name)).filter(|path| path.exists());
        let restic = Some(PathBuf::from("/usr/bin/restic")).filter(|path| path.exists());
        Peers { python: tool("python3"), rclone: tool("rclone"), restic }
    }

    /// For the page: what was not there.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = [(PYTHON, &self.python), (RCLONE, &self.rclone), (RESTIC, &self.restic)];
        all.into_iter().filter(|(_, path)| path.is_none()).map(|(name, _)| name).collect()
    }

    pub fn python(&self, bucket: &Bucket, machine: &Machine, verb: &str) -> Option<Cost> {
        let python = self.python.as_ref()?;
        std::fs::create_dir_all(machine.db_path().parent()?).ok()?;
        let database = text(&machine.db_path());
        let environment = [
            ("ENDPOINT", bucket.endpoint()),
            ("BUCKET", bucket.server.bucket.clone()),
            ("KEY", bucket.server.access_key.clone()),
            ("SECRET", bucket.server.secret_key.clone()),
            ("STATE", text(&machine.path("baseline-state"))),
        ];
        Some(measure(bucket, machine, python, &[BASELINE, verb, &database], &environment))
    }

    /// The file as it lies there, with nobody writing: the best case.
    pub fn rclone_up(&self, bucket: &Bucket, machine: &Machine) -> Option<Cost> {
        self.rclone(bucket, machine, &text(&machine.db_path()), &remote(bucket))
    }

    pub fn rclone_down(&self, bucket: &Bucket, machine: &Machine) -> Option<Cost> {
        self.rclone(bucket, machine, &remote(bucket), &text(&machine.path("rclone.db")))
    }

    fn rclone(&self, bucket: &Bucket, machine: &Machine, from: &str, to: &str) -> Option<Cost> {
        let environment = [
            ("RCLONE_CONFIG_BENCH_TYPE", "s3".to_owned()),
            ("RCLONE_CONFIG_BENCH_PROVIDER", "Other".to_owned()),
            ("RCLONE_CONFIG_BENCH_ENDPOINT", bucket.endpoint()),
            ("RCLONE_CONFIG_BENCH_ACCESS_KEY_ID", bucket.server.access_key.clone()),
            ("RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY", bucket.server.secret_key.clone()),
        ];
        let words = ["copyto", "--s3-no-check-bucket", "--config", "", from, to];
        Some(measure(bucket, machine, self.rclone.as_ref()?, &words, &environment))
    }

    pub fn restic_init(&self, bucket: &Bucket, machine: &Machine) {
        self.restic(bucket, machine, &["init", "--quiet"]);
    }

    /// The file as it lies there, with nobody writing: page for page what it was, the best case for chunks.
    pub fn restic_backup(&self, bucket: &Bucket, machine: &Machine) -> Option<Cost> {
        self.restic(bucket, machine, &["backup", "--quiet", &text(&machine.db_path())])
    }

    pub fn restic_restore(&self, bucket: &Bucket, machine: &Machine) -> Option<Cost> {
        let to = machine.path("restored");
        let _ = std::fs::remove_dir_all(&to);
        self.restic(bucket, machine, &["restore", "latest", "--quiet", "--target", &text(&to)])
    }

    fn restic(&self, bucket: &Bucket, machine: &Machine, words: &[&str]) -> Option<Cost> {
        let environment = [
            ("RESTIC_REPOSITORY", format!("s3:{}/{}/restic", bucket.endpoint(), bucket.server.bucket)),
            ("RESTIC_PASSWORD", "bench".to_owned()),
            ("AWS_ACCESS_KEY_ID", bucket.server.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", bucket.server.secret_key.clone()),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ];
        Some(measure(bucket, machine, self.restic.as_ref()?, words, &environment))
    }
}

fn measure(
    bucket: &Bucket,
    machine: &Machine,
    program: &Path,
    words: &[&str],
    environment: &[(&str, String)],
) -> Cost {
    bucket.reset();
    let (usage, _) = usage::of_program(machine, program, words, environment);
    bucket.cost(usage)
}

fn remote(bucket: &Bucket) -> String {
    format!("bench:{}/rclone/claude-mem.db", bucket.server.bucket)
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path").to_owned()
}
