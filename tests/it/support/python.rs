//! How tests ask other people's implementations: Python with the packages that `tests/run` installs.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// The interpreter. `tests/run` makes it.
pub fn interpreter() -> Command {
    let path = std::env::var_os("KIKET_TEST_PYTHON");
    Command::new(path.expect("KIKET_TEST_PYTHON is set by tests/run: start the tests with it"))
}

/// Runs a script that reads one JSON document and prints one.
pub fn ask(script: &str, question: &Value) -> Value {
    let mut command = interpreter();
    let piped = command
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(question.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script failed");
    serde_json::from_slice(&output.stdout).unwrap()
}
