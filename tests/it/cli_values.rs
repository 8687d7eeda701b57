//! Where values come from on a command line, which are refused, and that none is seen by anybody.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use rustix::fs::{FileType, Mode};

use super::support::command::{Shell, assert_refused};
use super::support::endpoint::Endpoint;
use super::support::instance::set_mode;
use super::support::process::Process;

const CANARY: &str = "cnry-value-4711";
const SET: &[&str] = &["extensions", "secrets", "set", "--key", "KEY"];

fn acme(process: &Process) -> Shell<'_> {
    Shell::of(process).in_organization("acme").guarding(CANARY)
}

fn line<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [SET, arguments].concat()
}

#[test]
fn what_arrives_at_the_endpoint_is_what_was_given() {
    let process = Process::start();
    let shell = Shell::of(&process).in_organization("org").guarding(CANARY);
    let endpoint = Endpoint::start();
    process.simple(&endpoint.url(), "before");
    let at = ["--scope", "project", "--id", "proj"];
    let delivered = || {
        assert_eq!(process.deliver("ins", b"{}").status, 200);
        endpoint.last().secret("KEY").unwrap()
    };
    for (input, value) in [
        (format!("{CANARY}\n"), CANARY.to_owned()),
        (format!("{CANARY}\n\n"), format!("{CANARY}\n")),
        (format!(" {CANARY}\t"), format!(" {CANARY}\t")),
        (format!("a\n{CANARY}\r\n"), format!("a\n{CANARY}\r")),
        (
            format!("\"{CANARY}\\\u{1f511}\u{fc}"),
            format!("\"{CANARY}\\\u{1f511}\u{fc}"),
        ),
    ] {
        let ended = shell.fed(input.as_bytes(), &line(&at));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(delivered(), value, "stdin");
        process.home.write("value", &format!("{input}!\n"));
        shell.fine(&line(&[&at[..], &["--value-file", "value"]].concat()));
        assert_eq!(delivered(), format!("{input}!"), "file");
        let ended = shell.fed(input.as_bytes(), &line(&[&at[..], &["--value-file", "-"]].concat()));
        assert_eq!((ended.code, delivered()), (Some(0), value), "-");
    }
    process.home.write(
        ".env",
        &format!("OTHER=x\nexport KEY=\"line 1\\nline\\t2\n{CANARY}\" # comment\nlower=1\n"),
    );
    shell.fine(&line(&[&at[..], &["--env-file", ".env"]].concat()));
    assert_eq!(delivered(), format!("line 1\nline\t2\n{CANARY}"));
    let ended = shell.run(&line(&[&at[..], &["--value", CANARY]].concat()));
    assert_eq!((ended.code, delivered()), (Some(0), CANARY.to_owned()));
    // A value that looks like a flag is a value.
    let ended = shell.run(&line(&[&at[..], &["--value", "--yes"]].concat()));
    assert_eq!((ended.code, delivered()), (Some(0), "--yes".to_owned()));
}

#[test]
fn a_value_is_as_long_as_the_store_takes_and_not_a_byte_longer() {
    let process = Process::start();
    let shell = acme(&process);
    let largest = format!("{CANARY}{}", "x".repeat(64 * 1024 - CANARY.len()));
    let file = line(&["--value-file", "value"]);
    for (what, value, code) in [
        ("64 KiB", largest.clone(), 0),
        ("64 KiB and a newline", format!("{largest}\n"), 0),
        ("64 KiB and a byte", format!("{largest}x"), 2),
        ("64 KiB and two newlines", format!("{largest}\n\n"), 2),
        ("twice that", largest.repeat(2), 2),
    ] {
        process.home.write("value", &value);
        process
            .home
            .write(".env", &format!("KEY='{}'\n", value.trim_end_matches('\n')));
        for ended in [shell.fed(value.as_bytes(), SET), shell.run(&file)] {
            assert_eq!(ended.code, Some(code), "{what}: {}", ended.stderr);
            assert_eq!(
                ended.stderr.contains("longer than 64 KiB"),
                code == 2,
                "{what}: {}",
                ended.stderr
            );
        }
        if !what.contains("newline") {
            let ended = shell.run(&line(&["--env-file", ".env"]));
            assert_eq!(ended.code, Some(code), "{what}: {}", ended.stderr);
        }
    }
}

#[test]
fn what_is_no_value_is_refused_with_its_place() {
    let process = Process::start();
    let shell = acme(&process);
    for (input, said) in [
        (&b""[..], "stdin: the value is empty"),
        (b"\n", "stdin: the value is empty"),
        (b"cnry\0x", "stdin: the value holds a NUL byte"),
        (b"cnry\xff", "stdin: it is not UTF-8 text"),
    ] {
        assert_refused(&shell.fed(input, SET), 2, &[said], SET);
        let path = process.home.write("value", "");
        fs::write(&path, input).unwrap();
        let said = said.replace("stdin", "--value-file value");
        shell.refused(2, &[&said], &line(&["--value-file", "value"]));
    }
    shell.refused(2, &["--value: the value is empty"], &line(&["--value", ""]));
    shell.refused(
        2,
        &["--value-file none: the file cannot be read: entity not found"],
        &line(&["--value-file", "none"]),
    );
    shell.refused(2, &["none: there is no such file"], &line(&["--env-file", "none"]));
    shell.refused(
        2,
        &["cannot be used with"],
        &line(&["--value-file", "a", "--env-file", "b"]),
    );
    let listed = shell.json(&["extensions", "secrets", "list"]);
    assert_eq!(listed["data"], serde_json::json!([]), "nothing was half-written");
}

#[test]
fn files_that_others_may_read_are_refused() {
    let process = Process::start();
    let shell = acme(&process);
    let path = process.home.write("file", &format!("KEY={CANARY}\n"));
    for (mode, as_value, as_env) in [
        (0o600, 0, 0),
        (0o640, 0, 2),
        (0o604, 2, 2),
        (0o644, 2, 2),
        (0o622, 2, 2),
    ] {
        set_mode(&path, mode);
        for (flag, code) in [("--value-file", as_value), ("--env-file", as_env)] {
            let ended = shell.run(&line(&[flag, "file"]));
            assert_eq!(ended.code, Some(code), "{flag} {mode:o}: {}", ended.stderr);
            let says = ended.stderr.contains("others may read or write the file: `chmod");
            assert_eq!(says, code == 2, "{flag} {mode:o}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_dotenv_file_that_is_wrong_is_refused_with_its_line_and_nothing_of_it() {
    let process = Process::start();
    let shell = acme(&process);
    let path = process.home.write("bad.env", "");
    for (text, said) in [
        (
            format!("A=1\nKEY=\"{CANARY}\nB=2\n").into_bytes(),
            "bad.env, line 2: the quote that opens here is not closed",
        ),
        (
            format!("KEY='{CANARY}").into_bytes(),
            "bad.env, line 1: the quote that opens here is not closed",
        ),
        (
            format!("\u{feff}KEY={CANARY}\n").into_bytes(),
            "bad.env, line 1: the file begins with a byte order mark",
        ),
        (
            [b"KEY=1\nB=", CANARY.as_bytes(), b"\xff\n"].concat(),
            "bad.env, line 2: this is not UTF-8 text",
        ),
        (
            format!("# x\n\n{CANARY}\n").into_bytes(),
            "bad.env, line 3: this is neither KEY=value nor a comment",
        ),
        (
            format!("KEY='{CANARY}' {CANARY}\n").into_bytes(),
            "bad.env, line 1: there is more behind the closing quote",
        ),
        (
            format!("KEY={CANARY}\nKEY={CANARY}\n").into_bytes(),
            "bad.env, line 2: this key has a value above already",
        ),
        (b"OTHER=x\n".to_vec(), "bad.env: there is no line KEY="),
    ] {
        fs::write(&path, &text).unwrap();
        shell.refused(2, &[said], &line(&["--env-file", "bad.env"]));
    }
    fs::write(&path, "# nothing\n").unwrap();
    let all = ["extensions", "secrets", "set", "--env-file", "bad.env"];
    shell.refused(2, &["bad.env: there is no KEY=value in the file"], &all);
}

/// What everybody on the machine can see of a process, and what its owner can.
fn seen(pid: u32) -> (String, String) {
    let read = |name: &str| String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{name}")).unwrap()).into_owned();
    (read("cmdline"), read("environ"))
}

#[test]
fn a_value_from_stdin_is_in_no_process_list() {
    let process = Process::start();
    let shell = acme(&process).with("KIKET_TOKEN", "");
    let fifo = process.home.path().join("fifo");
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
    let by_flag = line(&["--value", CANARY]);
    for (arguments, is_seen) in [(SET, false), (by_flag.as_slice(), true)] {
        let mut command = shell.command(&[arguments, &["--token-file", fifo.to_str().unwrap()]].concat());
        let quiet = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = quiet.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut token = fs::File::options().write(true).open(&fifo).unwrap(); // once the command reads it
        let look = |when: &str| {
            let (command_line, environment) = seen(child.id());
            assert!(
                command_line.contains("secrets") && environment.contains("KIKET_URL"),
                "{when}"
            );
            assert_eq!(command_line.contains(CANARY), is_seen, "{when}");
            assert!(!environment.contains(CANARY), "{when}");
            let is_token_seen = [command_line, environment]
                .iter()
                .any(|text| text.contains(&process.token));
            assert!(!is_token_seen, "{when}");
        };
        look("before its token");
        token.write_all(process.token.as_bytes()).unwrap();
        drop(token);
        if !is_seen {
            stdin.write_all(CANARY.as_bytes()).unwrap();
            look("with its value, which has not ended");
        }
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
