//! Tells the program its git revision and its target, for `--version`. No time stamps: the same source gives the same
//! binary.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MEMBRIDGE_REVISION");
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown target".to_owned());
    println!("cargo::rustc-env=MEMBRIDGE_TARGET={target}");
    // scripts/dist.sh leaves out what a binary that never unwinds carries for unwinding.
    println!("cargo::rerun-if-env-changed=MEMBRIDGE_LINK_SCRIPT");
    if let Ok(script) = std::env::var("MEMBRIDGE_LINK_SCRIPT") {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
    // A source archive has no git; who builds from one can say what it is.
    let told = std::env::var("MEMBRIDGE_REVISION").ok().filter(|text| !text.is_empty());
    let revision = told.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    println!("cargo::rustc-env=MEMBRIDGE_REVISION={}", revision.as_deref().unwrap_or("unknown revision"));
    // HEAD changes with a checkout, the branch's file with a commit.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && std::path::Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What git says in our own folder; nothing when the sources lie inside some other repository.
fn git(words: &[&str]) -> Option<String> {
    let folder = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    if !std::path::Path::new(&folder).join(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(words).current_dir(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
