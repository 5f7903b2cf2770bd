//! What the agent says of its machine: system, disk, memory. Reads, asks nobody, and says null where it cannot know.

use std::path::Path;

use serde_json::{Value, json};

use crate::platform::{self, Disk, Memory};

/// `systemd`, `openrc` or `unknown`.
pub fn init_system() -> &'static str {
    if Path::new("/run/systemd/system").is_dir() {
        "systemd"
    } else if Path::new("/run/openrc").is_dir() {
        "openrc"
    } else {
        "unknown"
    }
}

/// `HOST / Debian GNU/Linux 12 (bookworm)`, as the Python agent said it.
pub fn os(host: &str) -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    format!("{host} / {}", pretty_name(&release).unwrap_or("Linux"))
}

fn pretty_name(release: &str) -> Option<&str> {
    let line = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches(['"', '\''])).filter(|name| !name.is_empty())
}

/// The disk under a path, in GB.
pub fn disk(path: &Path) -> Value {
    let Ok(Disk { total, free }) = platform::disk(path) else {
        return Value::Null;
    };
    let (total, free) = (gigabytes(total), gigabytes(free));
    let used = if total > 0.0 { tenth((total - free) / total * 100.0) } else { 0.0 };
    json!({"total_gb": total, "free_gb": free, "used_pct": used})
}

/// Memory in MB.
pub fn memory() -> Value {
    let Some(Memory { total, available, free }) = platform::memory() else {
        return Value::Null;
    };
    let [total, available, free] = [total, available, free].map(|bytes| bytes >> 20);
    json!({"total": total, "used": total.saturating_sub(available), "free": free})
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
fn gigabytes(bytes: u64) -> f64 {
    tenth(bytes as f64 / f64::from(1 << 30))
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::{disk, memory, pretty_name};
    use std::path::Path;

    #[test]
    fn the_system_has_a_name() {
        let table = [
            ("NAME=x\nPRETTY_NAME=\"Alpine Linux v3.21\"\n", Some("Alpine Linux v3.21")),
            ("PRETTY_NAME=Void\n", Some("Void")),
            ("PRETTY_NAME=\"\"\n", None),
            ("", None),
        ];
        for (release, name) in table {
            assert_eq!(pretty_name(release), name);
        }
    }

    #[test]
    fn what_cannot_be_known_is_null() {
        assert!(disk(Path::new("/nowhere/at/all")).is_null());
        assert!(disk(Path::new("/")).get("free_gb").is_some());
        assert!(memory().get("total").is_some());
    }
}
