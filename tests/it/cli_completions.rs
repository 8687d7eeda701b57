//! What a shell can complete: commands from its script, keys, ids and scopes from the server.

use std::process::{Command, Stdio};

use serde_json::json;

use super::support::command::Shell;
use super::support::process::{Process, kiket, run};

/// A server with two installations, and a secret whose key no manifest asks for.
fn furnished() -> Process {
    let process = Process::start();
    let callback = json!({"url": "http://127.0.0.1:9/"});
    let configuration = json!({"CRM_TOKEN": {"secret": true}, "SMTP_HOST": {"secret": true}});
    process.install("ins_1", "com.example.crm", &callback, &configuration);
    process.install(
        "ins_2",
        "com.example.chat",
        &callback,
        &json!({"CHAT_KEY": {"secret": true}}),
    );
    process.set("EXTRA", "value");
    process
}

fn candidates(shell: &Shell<'_>, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let text = shell.run(&[&["__complete", "--"], words.as_slice()].concat());
    assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""), "{line}");
    text.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn keys_ids_and_scopes_come_from_the_server() {
    let process = furnished();
    let shell = Shell::of(&process);
    for (line, expected) in [
        ("marketplace status ", &["ins_1", "ins_2"][..]),
        ("extensions secrets explain --installation ", &["ins_1", "ins_2"]),
        (
            "extensions secrets list --scope installation --id ",
            &["ins_1", "ins_2"],
        ),
        (
            "extensions secrets list --scope extension --id ",
            &["com.example.chat", "com.example.crm"],
        ),
        ("extensions secrets list --scope project --id ", &["proj"]),
        ("extensions secrets list --organization ", &["org"]),
        ("extensions secrets list --key ", &["EXTRA"]),
        (
            "extensions secrets set --scope extension --id com.example.crm --key ",
            &["CRM_TOKEN", "SMTP_HOST"],
        ),
        (
            "extensions secrets set --scope=installation --id=ins_2 --key ",
            &["CHAT_KEY"],
        ),
        (
            "extensions secrets explain --installation ins_1 --key C",
            &["CRM_TOKEN", "EXTRA", "SMTP_HOST"],
        ),
        ("extensions secrets list ", &[]),
        ("serve ", &[]),
    ] {
        assert_eq!(candidates(&shell, line), expected, "{line}");
    }
    let scopes = candidates(&shell, "extensions secrets set --scope ");
    assert_eq!(scopes.len(), 5, "{scopes:?}");
}

#[test]
fn who_completes_is_never_told_of_a_problem() {
    let process = furnished();
    for shell in [
        Shell::of(&process).with("KIKET_URL", "http://127.0.0.1:1"),
        Shell::of(&process).with("KIKET_TOKEN", ""),
        Shell::of(&process).with("KIKET_TOKEN", "wrong"),
    ] {
        assert!(candidates(&shell, "marketplace status ").is_empty());
    }
    let bare = run(kiket(&["__complete"]));
    assert_eq!(
        (bare.code, bare.stdout.as_str(), bare.stderr.as_str()),
        (Some(0), "", "")
    );
}

#[test]
fn bash_completes_commands_from_its_script_and_ids_from_the_server() {
    let process = furnished();
    let shell = Shell::of(&process);
    process.home.write("kiket.bash", &shell.fine(&["completions", "bash"]));
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_kiket"));
    let folder = binary.parent().unwrap().display();
    for (words, current, previous, expected) in [
        ("kiket marketplace status ''", "''", "status", "ins_1 ins_2"),
        ("kiket marketplace status ins_2", "ins_2", "status", "ins_2"),
        ("kiket marketplace sta", "sta", "marketplace", "status"),
        (
            "kiket extensions secrets set --scope proj",
            "proj",
            "--scope",
            "project",
        ),
    ] {
        let script = format!(
            "source kiket.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _kiket_asking kiket {current} {previous}; echo \"${{COMPREPLY[*]}}\""
        );
        let mut bash = Command::new("bash");
        let asked = shell.command(&[]);
        bash.args(["-c", &script])
            .current_dir(process.home.path())
            .stdin(Stdio::null());
        bash.envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bash.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()));
        let ended = run(bash);
        assert_eq!(ended.stdout.trim_end(), expected, "{words}: {}", ended.stderr);
    }
}
