//! A store in a folder that somebody else can write to: FIFOs and links in the place of objects. Nothing but regular files
//! below the root is read or written, and nobody waits.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::{assert_no_leftovers, assert_whole, with_memory};
use crate::support::claude_mem;
use crate::support::machine::Machine;
use crate::support::python_node::key;

/// A machine that has pushed into a folder, and recorded more.
fn pushed(store: &Path) -> Machine {
    let alpha = Machine::new("alpha", store);
    with_memory(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    alpha
}

/// The only pack there is.
fn pack(store: &Path) -> PathBuf {
    let packs = std::fs::read_dir(store.join(key("mem", "membridge/packs"))).unwrap();
    packs.map(|entry| entry.unwrap().path()).next().unwrap()
}

/// All commands end, whatever they find; what they say holds none of these words.
fn run_all(name: &str, alpha: &Machine, secret: &str) {
    let file = std::fs::metadata(alpha.db_path()).unwrap().ino();
    for command in ["status", "doctor", "push_sqlite", "verify", "history"] {
        let end = alpha.cmd(command).timeout(Duration::from_secs(40)).run();
        assert!(matches!(end.code, 0 | 1), "{name}: {command}: {end:?}");
        end.never_says(secret);
    }
    assert_eq!(std::fs::metadata(alpha.db_path()).unwrap().ino(), file, "{name}: the live database");
    assert_eq!(claude_mem::counts(alpha.db_path()).observations, 6, "{name}");
    assert_whole(&alpha.db_path());
    assert_no_leftovers(alpha);
}

#[test]
fn nothing_but_files_below_the_root_is_read_or_written() {
    let places = [
        "membridge/commits/0000000002.json",
        "locks/active.lock",
        "leadership/lease.json",
        "sqlite/manifest.json",
        "membridge/settings.json",
        "the pack",
        "the lock",
    ];
    for place in places {
        let store = tempfile::tempdir().unwrap();
        let alpha = pushed(store.path());
        let path = match place {
            "the pack" => pack(store.path()),
            "the lock" => store.path().join(".membridge-lock"),
            place => store.path().join(key("mem", place)),
        };
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        run_all(place, &alpha, "TOPSECRET");
    }
}

#[test]
fn a_link_leads_nowhere() {
    // To a secret, in the place of a commit.
    let store = tempfile::tempdir().unwrap();
    let alpha = pushed(store.path());
    let secret = alpha.write("secret", "{\"schema\": \"TOPSECRET\"}");
    symlink(&secret, store.path().join(key("mem", "membridge/commits/0000000002.json"))).unwrap();
    run_all("a commit", &alpha, "TOPSECRET");
    // To a folder of other files, in the place of the packs.
    let store = tempfile::tempdir().unwrap();
    let alpha = pushed(store.path());
    let pack = pack(store.path());
    let stranger = alpha.write(&format!("mine/{}.zst", "a".repeat(64)), "precious");
    std::fs::rename(&pack, alpha.path("mine").join(pack.file_name().unwrap())).unwrap();
    std::fs::remove_dir(pack.parent().unwrap()).unwrap();
    symlink(alpha.path("mine"), pack.parent().unwrap()).unwrap();
    run_all("packs", &alpha, "TOPSECRET");
    assert_eq!(std::fs::read(stranger).unwrap(), b"precious");
    // To the live database, in the place of the copy for Python nodes.
    let store = tempfile::tempdir().unwrap();
    let alpha = pushed(store.path());
    let copies = store.path().join(key("mem", "sqlite"));
    let _ = std::fs::remove_dir_all(&copies);
    symlink(alpha.db_path().parent().unwrap(), &copies).unwrap();
    run_all("the copy", &alpha, "TOPSECRET");
    // To a file that is not there yet, in the place of the lock.
    let store = tempfile::tempdir().unwrap();
    let alpha = pushed(store.path());
    let lock = store.path().join(".membridge-lock");
    let _ = std::fs::remove_file(&lock);
    symlink(alpha.path("made"), &lock).unwrap();
    run_all("the lock", &alpha, "TOPSECRET");
    assert!(!alpha.path("made").exists());
}

#[test]
fn whoever_holds_the_folders_lock_for_long_is_named_and_a_signal_is_obeyed_meanwhile() {
    let store = tempfile::tempdir().unwrap();
    let alpha = pushed(store.path());
    // A process that was stopped in the moment in which it held it.
    let lock = std::fs::File::open(store.path().join(".membridge-lock")).unwrap();
    lock.lock().unwrap();
    let looked = alpha.cmd("status").run();
    assert!(looked.code == 0 && looked.took < Duration::from_secs(5), "{looked:?}");
    let told = alpha.cmd("push_sqlite").spawn();
    told.wait_for_stdout("[1/");
    told.sigterm();
    assert_eq!(told.wait().code, 143);
    let end = alpha.cmd("push_sqlite").timeout(Duration::from_secs(50)).run();
    end.assert_code(1).says("has held the lock of this directory").says("fuser -v");
    lock.unlock().unwrap();
    alpha.cmd("push_sqlite").run().assert_code(0);
}
