//! Agreeing to a changed destination and to added keys from the command line, and seeing that it is asked for.

use serde_json::{Value, json};

use super::support::command::{Shell, assert_refused};
use super::support::endpoint::Endpoint;
use super::support::process::Process;

const CANARY: &str = "cnry-consent-1904";

fn org(process: &Process) -> Shell<'_> {
    Shell::of(process).in_organization("org").guarding(CANARY)
}

/// Registers the extension of `ins` anew.
fn update(process: &Process, callback: Value) {
    let delivery = json!({"type": "http", "callback": callback});
    let manifest =
        json!({"id": "com.example.simple", "delivery": delivery, "configuration": {"KEY": {"secret": true}}});
    process.must("PUT", "/extensions/com.example.simple", &manifest);
}

/// An enabled installation `ins` whose manifest has since moved and asks for more.
fn moved(process: &Process, url: &str) -> Endpoint {
    let old = Endpoint::start();
    process.simple(&old.url(), CANARY);
    process.set("MORE", CANARY);
    let callback = json!({"url": url, "secret_keys": ["MORE"], "signing_secret_key": "MORE_SIGN"});
    update(process, callback);
    old
}

#[test]
fn status_shows_what_waits_and_the_commands_that_it_proposes_agree_to_exactly_that() {
    let (process, other) = (Process::start(), Endpoint::start());
    let url = other.url();
    let _old = moved(&process, &url);
    process.set("MORE_SIGN", CANARY);
    let status = org(&process).line("kiket marketplace status ins");
    let expected = format!(
        "\ndestination not confirmed, it gets no secrets: {url}\n  \
         kiket marketplace confirm ins --destination '{url}'\n\n\
         keys not accepted, they are withheld: MORE (payload), MORE_SIGN (signing)\n  \
         kiket marketplace accept-keys ins --key MORE:payload --key MORE_SIGN:signing\n"
    );
    assert_eq!(status.code, Some(1));
    assert!(status.stdout.ends_with(&expected), "{}", status.stdout);
    let all = org(&process).line("kiket marketplace status");
    assert_eq!(all.code, Some(1));
    assert!(
        all.stdout.contains(&format!("{url}, MORE, MORE_SIGN")),
        "{}",
        all.stdout
    );
    let explained = org(&process).line("kiket extensions secrets explain --installation ins");
    assert_eq!(explained.code, Some(1));
    for said in [
        format!("no delivery is made: nobody confirmed its destination {url}\n"),
        String::from("MORE (payload, optional): not-consented\n"),
    ] {
        assert!(explained.stdout.contains(&said), "{}", explained.stdout);
    }

    for proposed in status.stdout.lines().filter(|line| line.starts_with("  kiket")) {
        let ended = org(&process).line(&proposed.replace('\'', ""));
        assert_eq!(ended.code, Some(0), "{proposed}: {}", ended.stderr);
    }
    assert_eq!(process.deliver("ins", b"{}").status, 200);
    assert_eq!(other.last().secret("MORE").as_deref(), Some(CANARY));
    let status = org(&process).line("kiket marketplace status ins");
    assert_eq!(status.code, Some(0));
    assert!(!status.stdout.contains("not "), "{}", status.stdout);
}

#[test]
fn without_more_words_they_agree_to_what_waits_and_say_what_that_was() {
    let (process, other) = (Process::start(), Endpoint::start());
    let _old = moved(&process, &other.url());
    process.set("MORE_SIGN", CANARY);
    let shell = org(&process);
    assert_eq!(
        shell.fine(&["marketplace", "confirm", "ins"]),
        format!("secrets of ins may go to {}\n", other.url())
    );
    assert_eq!(
        shell.fine(&["marketplace", "accept-keys", "ins"]),
        "ins gets 2 keys more: MORE (payload), MORE_SIGN (signing)\n"
    );
    assert_eq!(process.deliver("ins", b"{}").status, 200);
    for command in ["confirm", "accept-keys"] {
        let again = shell.fine(&["marketplace", command, "ins"]);
        assert_eq!(again, "nothing of ins waits for a consent\n");
    }
}

#[test]
fn what_was_not_seen_so_is_not_agreed_to() {
    let (process, other) = (Process::start(), Endpoint::start());
    let _old = moved(&process, &other.url());
    let shell = org(&process);
    for line in [
        "kiket marketplace confirm ins --destination http://127.0.0.1:1/seen",
        "kiket marketplace accept-keys ins --key MORE:signing",
        "kiket marketplace accept-keys ins --key MORE:payload --key NEVER",
    ] {
        assert_refused(&shell.line(line), 4, &["what was named is not what stands there"], &[]);
    }
    assert_eq!(process.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    let auditor = process.token_of("auditor", "org");
    let refused = org(&process)
        .with("KIKET_TOKEN", &auditor)
        .line("kiket marketplace confirm ins");
    assert_refused(&refused, 4, &["role does not allow"], &[]);
    let unknown = shell.line("kiket marketplace accept-keys none");
    assert_refused(&unknown, 4, &["no such thing"], &[]);
}

#[test]
fn a_partners_url_is_no_shell_command_in_what_status_proposes() {
    let process = Process::start();
    let url = "http://127.0.0.1:1/x'$(reboot)'";
    let _old = moved(&process, url);
    let status = org(&process).line("kiket marketplace status ins");
    let proposed = status
        .stdout
        .lines()
        .find(|line| line.contains("marketplace confirm"))
        .unwrap();
    let (_, argument) = proposed.split_once("--destination ").unwrap();
    let echoed = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("printf %s {argument}")])
        .env("PATH", "")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(echoed.stdout).unwrap(), url);
    assert_eq!(String::from_utf8(echoed.stderr).unwrap(), "");
}
