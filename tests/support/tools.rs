//! Tools outside of Rust: Python and Node.js, with the packages a test needs, in a folder below `target`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Mutex,
};

use super::repo;

/// Runs a command; its output if it succeeded.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{text}", output.status);
    text
}

/// Runs a command that may fail, but must exist.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{:?} cannot be run ({e}): install it, these tests need it", command.get_program()))
}

/// Python of this machine, for scripts that need nothing but its library.
pub fn python() -> Command {
    Command::new("python3")
}

/// Python with the packages of `tests/clients/requirements.txt`.
#[track_caller]
pub fn python_with_packages() -> Command {
    let venv = clients().join("venv");
    prepare(&venv, &repo().join("tests/clients/requirements.txt"), |list| {
        run(python().args(["-m", "venv", "--clear"]).arg(&venv));
        let pip = venv.join("bin/python");
        run(Command::new(pip).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(list));
    });
    Command::new(venv.join("bin/python"))
}

/// Node.js with a script and the packages of `tests/clients/package.json`.
#[track_caller]
pub fn node_with_packages(script: &Path) -> Command {
    let folder = clients().join("node");
    prepare(&folder, &repo().join("tests/clients/package.json"), |list| {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(list, folder.join("package.json")).unwrap();
        run(Command::new("npm").args(["install", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&folder));
    });
    // Packages are looked for beside the script, which is why it is run from a copy there.
    let copy = folder.join(script.file_name().unwrap());
    fs::write(&copy, fs::read(script).unwrap()).unwrap();
    let mut node = Command::new("node");
    node.arg(copy);
    node
}

fn clients() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clients")
}

/// Makes a folder once for each content of the list of its packages.
fn prepare(folder: &Path, list: &Path, make: impl FnOnce(&Path)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let wanted = fs::read_to_string(list).unwrap();
    let mark = folder.join("made-from");
    if fs::read_to_string(&mark).is_ok_and(|made| made == wanted) {
        return;
    }
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    make(list);
    fs::write(mark, wanted).unwrap();
}
