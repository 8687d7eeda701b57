//! What a person at a terminal is asked, and that what is typed does not show.

use super::support::canary::Canary;
use super::support::command::Shell;
use super::support::endpoint::Endpoint;
use super::support::process::Process;
use super::support::terminal::Terminal;

const CANARY: &str = "cnry-typed-1234";

const MANIFEST: &str = "\
extension:
  id: com.example.zoom
  delivery: { type: http, callback: { url: URL } }
  configuration:
    CHANNEL_TOKEN: { type: string, secret: true, required: true, label: Default Channel }
    ZOOM_CLIENT_ID: { type: string, secret: true, required: true, scope: extension, label: Zoom Client ID }
    SMTP_HOST: { type: string, secret: true }
";

fn acme(process: &Process) -> Shell<'_> {
    Shell::of(process).in_organization("acme").guarding(CANARY)
}

fn start(process: &Process, arguments: &[&str]) -> Terminal {
    Terminal::start(acme(process).command(arguments))
}

/// The end of a command: its exit code, and what was seen, which is never a value.
fn end(terminal: Terminal) -> (Option<i32>, String, String) {
    let (code, screen, stdout) = terminal.end();
    let canary = Canary::new(CANARY);
    assert_eq!(canary.found_in(screen.as_bytes()), None, "{screen}");
    assert_eq!(canary.found_in(stdout.as_bytes()), None, "{stdout}");
    (code, screen, stdout)
}

#[test]
fn a_value_is_asked_for_twice_and_does_not_show() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    process.simple(&endpoint.url(), "before");
    let set = [
        "extensions",
        "secrets",
        "set",
        "--scope",
        "project",
        "--id",
        "proj",
        "--key",
        "KEY",
        "--organization",
        "org",
    ];
    let mut terminal = start(&process, &set);
    terminal.answer("value of KEY: ", 1, &format!("{CANARY}\r"));
    terminal.answer("the same again: ", 1, "something else\r");
    terminal.answer("value of KEY: ", 2, &format!("wrong\x15{CANARY}x\x7f\r"));
    terminal.wait_for("these differ; once more");
    terminal.answer("the same again: ", 2, &format!("{CANARY}\r"));
    let (code, screen, stdout) = end(terminal);
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), "replaced KEY at project proj: version 2, rotated once\n"),
        "{screen}"
    );
    assert_eq!(process.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some(CANARY));
}

#[test]
fn a_long_value_is_taken_whole() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    process.simple(&endpoint.url(), "before");
    let set = [
        "extensions",
        "secrets",
        "set",
        "--scope",
        "project",
        "--id",
        "proj",
        "--key",
        "KEY",
        "--organization",
        "org",
    ];
    let mut terminal = start(&process, &set);
    let long = format!("{CANARY}{}", "0123456789".repeat(1_000));
    terminal.answer("value of KEY: ", 1, &format!("{long}\r"));
    terminal.answer("the same again: ", 1, &format!("{long}\r"));
    assert_eq!(end(terminal).0, Some(0));
    assert_eq!(process.deliver("ins", b"{}").status, 200);
    assert_eq!(
        endpoint.last().secret("KEY"),
        Some(long),
        "a terminal's own line ends at 4096 bytes"
    );
}

#[test]
fn an_interrupt_writes_nothing_and_gives_the_terminal_back() {
    let process = Process::start();
    for (typed, said) in [
        ("cn\x03", "interrupted; nothing was written"),
        ("\r", "the value is empty"),
        ("\x04", "the value is empty"),
    ] {
        let mut terminal = start(&process, &["extensions", "secrets", "set", "--key", "KEY"]);
        terminal.wait_for("value of KEY: ");
        assert!(!terminal.echoes());
        terminal.answer("value of KEY: ", 1, typed);
        let (code, screen, _) = end(terminal);
        assert_eq!(code, Some(2), "{screen}");
        assert!(screen.contains(said), "{screen}");
    }
    let listed = acme(&process).json(&["extensions", "secrets", "list"]);
    assert_eq!(listed["data"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_undone_is_asked_for_first() {
    let process = Process::start();
    let shell = acme(&process);
    let set = ["extensions", "secrets", "set", "--key", "KEY"];
    assert_eq!(shell.fed(CANARY.as_bytes(), &set).code, Some(0));
    let delete = ["extensions", "secrets", "delete", "--key", "KEY"];
    for typed in ["\r", "n\r", "perhaps\rno\r"] {
        let mut terminal = start(&process, &delete);
        terminal.answer("delete KEY at organization acme? [y/N] ", 1, typed);
        let (code, screen, stdout) = end(terminal);
        assert_eq!((code, stdout.as_str()), (Some(0), ""));
        assert!(screen.contains("nothing was deleted"), "{screen}");
    }
    let count = |shell: &Shell<'_>| {
        shell.json(&["extensions", "secrets", "list"])["data"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count(&shell), 1);
    let mut terminal = start(&process, &delete);
    terminal.answer("[y/N] ", 1, "y\r");
    assert_eq!(end(terminal).2, "deleted KEY at organization acme\n");
    assert_eq!(count(&shell), 0);
}

#[test]
fn an_install_asks_for_the_organizations_values_first_and_then_for_the_projects() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    process
        .home
        .write("manifest.yaml", &MANIFEST.replace("URL", &endpoint.url()));
    let mut first = start(
        &process,
        &[
            "marketplace",
            "install",
            "manifest.yaml",
            "--project",
            "web",
            "--id",
            "ins_1",
        ],
    );
    let answers = [
        ("ZOOM_CLIENT_ID (Zoom Client ID), required: ", format!("{CANARY}-org\r")),
        ("the same again: ", format!("{CANARY}-org\r")),
        ("CHANNEL_TOKEN (Default Channel), required: ", format!("{CANARY}-web\r")),
        ("the same again: ", format!("{CANARY}-web\r")),
        ("SMTP_HOST, optional: ", String::from("\r")),
        ("enable it now? [Y/n] ", String::from("\r")),
    ];
    for (n, (shown, typed)) in answers.iter().enumerate() {
        let times = answers[..=n].iter().filter(|(other, _)| other == shown).count();
        first.answer(shown, times, typed);
    }
    let (code, screen, stdout) = end(first);
    assert_eq!(code, Some(0), "{screen}");
    assert!(
        stdout.contains("ins_1: com.example.zoom in project web of acme, enabled"),
        "{stdout}"
    );
    let place = |text: &str| screen.find(text).unwrap_or_else(|| panic!("no `{text}` in {screen}"));
    let order = [
        "For the whole organization acme:",
        "ZOOM_CLIENT_ID (Zoom Client ID), required",
        "For project web:",
        "CHANNEL_TOKEN (Default Channel), required",
    ];
    assert!(order.map(place).is_sorted(), "{screen}");
    assert_eq!(process.deliver("ins_1", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("ZOOM_CLIENT_ID"), Some(format!("{CANARY}-org")));

    // The second project is asked for its own values only, and may override the organization's.
    let mut second = start(
        &process,
        &[
            "marketplace",
            "install",
            "com.example.zoom",
            "--project",
            "two",
            "--id",
            "ins_2",
        ],
    );
    second.wait_for("ZOOM_CLIENT_ID (Zoom Client ID): using organization-wide credentials (extension)");
    second.answer("override for project two? [y/N] ", 1, "y\r");
    second.answer(
        "ZOOM_CLIENT_ID (Zoom Client ID), required: ",
        1,
        &format!("{CANARY}-two\r"),
    );
    second.answer("the same again: ", 1, &format!("{CANARY}-two\r"));
    second.answer(
        "CHANNEL_TOKEN (Default Channel), required: ",
        1,
        &format!("{CANARY}-channel\r"),
    );
    second.answer("the same again: ", 2, &format!("{CANARY}-channel\r"));
    second.answer("SMTP_HOST, optional: ", 1, "\r");
    second.answer("enable it now? [Y/n] ", 1, "y\r");
    assert_eq!(end(second).0, Some(0));
    for (installation, expected) in [("ins_1", "-org"), ("ins_2", "-two")] {
        assert_eq!(process.deliver(installation, b"{}").status, 200);
        assert_eq!(
            endpoint.last().secret("ZOOM_CLIENT_ID"),
            Some(format!("{CANARY}{expected}")),
            "{installation}"
        );
    }
}

#[test]
fn an_import_in_parts_shows_how_far_it_is() {
    let process = Process::start();
    let entries: String = (0..450).map(|n| format!("KEY_{n}={CANARY}-{n}\n")).collect();
    process.home.write("many.env", &entries);
    let terminal = start(&process, &["extensions", "secrets", "set", "--env-file", "many.env"]);
    let (code, screen, _) = end(terminal);
    assert_eq!(code, Some(0), "{screen}");
    for shown in ["] 0 of 450", "] 200 of 450", "] 400 of 450", "] 450 of 450"] {
        assert!(screen.contains(shown), "{screen}");
    }
}
