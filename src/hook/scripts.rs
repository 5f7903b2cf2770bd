//! The wrapper scripts that people have in their settings and aliases: carried in the binary, written to a folder,
//! taken away again. A script of the same name that is not ours is set aside, not lost.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Name and text of each wrapper.
pub const SCRIPTS: [(&str, &str); 6] = [
    ("claude-mem-hook-pull", include_str!("../../hooks/claude-mem-hook-pull")),
    ("claude-mem-hook-push", include_str!("../../hooks/claude-mem-hook-push")),
    ("claude-mem-push", include_str!("../../hooks/claude-mem-push")),
    ("claude-mem-pull", include_str!("../../hooks/claude-mem-pull")),
    ("claude-mem-status", include_str!("../../hooks/claude-mem-status")),
    ("claude-mem-doctor", include_str!("../../hooks/claude-mem-doctor")),
];

/// A line by which every release knows its own.
const MARK: &str = "# Part of membridge:";

/// What a foreign script of the same name is called while ours is there.
const ASIDE: &str = ".before-membridge";

/// How a script in the folder compares with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Missing,
    /// It is ours.
    Ours,
    /// It is ours, of another release.
    OtherRelease,
    /// It is not ours.
    Foreign,
}

/// Looks at one script.
pub fn look(bin: &Path, name: &str, text: &str) -> Found {
    match std::fs::read(bin.join(name)) {
        Ok(bytes) if bytes == text.as_bytes() => Found::Ours,
        Ok(bytes) if String::from_utf8_lossy(&bytes).contains(MARK) => Found::OtherRelease,
        Ok(_) => Found::Foreign,
        Err(_) => Found::Missing,
    }
}

/// Writes one script, mode 0755, and sets a different one aside; what was set aside earlier stays, and comes back first.
///
/// # Errors
/// The folder or the file cannot be written.
pub fn install(bin: &Path, name: &str, text: &str) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(bin)?;
    let path = bin.join(name);
    if look(bin, name, text) == Found::Foreign {
        let numbers = (2_u32..).map(|number| format!("{name}{ASIDE}.{number}"));
        let mut names = std::iter::once(format!("{name}{ASIDE}")).chain(numbers).map(|name| bin.join(name));
        let free = names.find(|aside| aside.symlink_metadata().is_err());
        std::fs::rename(&path, free.unwrap_or_else(|| bin.join(format!("{name}{ASIDE}"))))?;
    }
    let mut file = tempfile::Builder::new().prefix(".script").tempfile_in(bin)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

/// Whether something comes back in a script's place when ours goes.
pub fn comes_back(bin: &Path, name: &str) -> bool {
    bin.join(format!("{name}{ASIDE}")).exists()
}

/// Takes one script of ours away and puts back what was there before. `false`: it is not ours, and stays.
///
/// # Errors
/// The file cannot be removed.
pub fn uninstall(bin: &Path, name: &str, text: &str) -> io::Result<bool> {
    match look(bin, name, text) {
        Found::Missing => return Ok(true),
        Found::Foreign => return Ok(false),
        Found::Ours | Found::OtherRelease => {}
    }
    let aside = bin.join(format!("{name}{ASIDE}"));
    if aside.exists() {
        std::fs::rename(aside, bin.join(name))?;
    } else {
        std::fs::remove_file(bin.join(name))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::{Found, SCRIPTS, comes_back, install, look, uninstall};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn scripts_come_and_go_and_what_was_there_before_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let bin = home.path().join("bin");
        let (name, text) = SCRIPTS[0];
        install(&bin, name, text).unwrap();
        install(&bin, name, text).unwrap();
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&bin), mode(&bin.join(name))), (0o700, 0o755));
        assert!(uninstall(&bin, name, text).unwrap());
        assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 0);

        std::fs::write(bin.join(name), "# Part of membridge: an old one").unwrap();
        install(&bin, name, text).unwrap();
        assert!(uninstall(&bin, name, text).unwrap());
        assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 0);

        std::fs::write(bin.join(name), "python").unwrap();
        install(&bin, name, text).unwrap();
        assert!(comes_back(&bin, name) && !comes_back(&bin, SCRIPTS[1].0));
        assert_eq!(look(&bin, name, text), Found::Ours);
        assert!(uninstall(&bin, name, text).unwrap());
        assert_eq!(std::fs::read(bin.join(name)).unwrap(), b"python");
        // A second one is kept beside the first.
        std::fs::write(bin.join(name), "older").unwrap();
        install(&bin, name, text).unwrap();
        std::fs::write(bin.join(name), "newer").unwrap();
        install(&bin, name, text).unwrap();
        let kept =
            |end: &str| std::fs::read_to_string(bin.join(format!("{name}.before-membridge{end}"))).unwrap();
        assert_eq!((kept("").as_str(), kept(".2").as_str()), ("older", "newer"));
        assert!(uninstall(&bin, name, text).unwrap());
        assert_eq!(std::fs::read(bin.join(name)).unwrap(), b"older");
        assert!(SCRIPTS.iter().all(|(_, text)| text.contains(super::MARK)));
        assert!(!uninstall(&bin, name, text).unwrap());
    }
}
