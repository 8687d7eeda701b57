//! How a test gets a process to itself, so that what it counts is its own.

use std::process::Command;

/// Set in the process that a test was given.
const ALONE: &str = "KIKET_TEST_ALONE";

/// Runs the body of the test `name` (`file::function`) in a process of its own, which is this binary once more.
pub fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(ALONE, "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "no test goes by the name {name}: {said}");
}
