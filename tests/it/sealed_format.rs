//! A second reader of sealed objects, written from docs/format.md alone in another language, agrees with the document's
//! vectors. Needs Python's `cryptography`; where it is missing the test says so.

use std::process::Command;

use super::docs::{python, root};

/// Python, where it has `cryptography`.
pub fn with_cryptography() -> Option<std::path::PathBuf> {
    let python = python()?;
    let imported = Command::new(&python).args(["-c", "import cryptography"]).output().unwrap();
    if imported.status.success() {
        return Some(python);
    }
    eprintln!("skipped: Python has no cryptography: pip install cryptography");
    None
}

#[test]
fn a_second_reader_agrees_with_the_vectors() {
    let Some(python) = with_cryptography() else { return };
    let reader = root().join("tests/support/read_sealed.py");
    let output =
        Command::new(python).arg(reader).arg("vectors").arg(root().join("docs/format.md")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the vectors hold\n");
}
