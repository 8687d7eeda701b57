//! How a person or a script uses the command line against a server: the binary, with its environment and its input.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::canary::Canary;
use super::captured::Captured;
use super::process::{Ended, Home, Process, kiket, run};

/// The command line of one server, with one token in its environment.
pub struct Shell<'a> {
    home: &'a Home,
    environment: Vec<(String, String)>,
    /// What no output may hold.
    canaries: Vec<Canary>,
}

impl<'a> Shell<'a> {
    /// As the operator of this server.
    pub fn of(process: &'a Process) -> Self {
        let url = format!("http://{}", process.admin);
        Self {
            home: &process.home,
            environment: vec![
                (String::from("KIKET_URL"), url),
                (String::from("KIKET_TOKEN"), process.token.clone()),
            ],
            canaries: Vec::new(),
        }
    }

    /// The same with another variable; without it where the value is empty.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        if !value.is_empty() {
            self.environment.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same, in this organization.
    pub fn in_organization(self, id: &str) -> Self {
        self.with("KIKET_ORGANIZATION", id)
    }

    /// Fails when a command prints this, in any form.
    pub fn guarding(mut self, text: &str) -> Self {
        self.canaries.push(Canary::new(text));
        self
    }

    /// A command, not started yet. Runs in the server's home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = kiket(arguments);
        command.current_dir(self.home.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end, without input.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.checked(arguments, run(self.command(arguments)))
    }

    /// The same, as it is typed: words separated by spaces.
    pub fn line(&self, line: &str) -> Ended {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.first(), Some(&"kiket"), "{line}");
        self.run(&words[1..])
    }

    /// The same with bytes on stdin.
    pub fn fed(&self, input: &[u8], arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (stdout, stderr) = (
            Captured::start(child.stdout.take().unwrap()),
            Captured::start(child.stderr.take().unwrap()),
        );
        let _ = stdin.write_all(input); // who refuses does not read it all
        drop(stdin);
        stdout.wait_for_end();
        stderr.wait_for_end();
        let ended = Ended {
            code: child.wait().unwrap().code(),
            stdout: stdout.text(),
            stderr: stderr.text(),
        };
        self.checked(arguments, ended)
    }

    /// A command that goes well without a word on stderr: what it prints.
    pub fn fine(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{arguments:?}: {}",
            ended.stdout
        );
        ended.stdout
    }

    /// The JSON that a command prints, whatever its exit code.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}{}", ended.stdout, ended.stderr))
    }

    /// A command that ends with this code, saying all of this on stderr.
    pub fn refused(&self, code: i32, said: &[&str], arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_refused(&ended, code, said, arguments);
        ended
    }

    pub fn checked(&self, arguments: &[&str], ended: Ended) -> Ended {
        for canary in &self.canaries {
            let is_given = arguments.iter().any(|argument| argument.contains(&canary.text));
            assert!(
                !is_given || arguments.contains(&"--value"),
                "a canary among the arguments"
            );
            for (stream, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
                let found = canary.found_in(text.as_bytes());
                assert_eq!(found, None, "{arguments:?} on {stream}: {text}");
            }
        }
        ended
    }
}

/// Whether a command was refused with this code and for this reason.
pub fn assert_refused(ended: &Ended, code: i32, said: &[&str], arguments: &[&str]) {
    let (stdout, stderr) = (&ended.stdout, &ended.stderr);
    assert_eq!(ended.code, Some(code), "{arguments:?}: {stdout}{stderr}");
    for words in said {
        assert!(stderr.contains(words), "{arguments:?}: no `{words}` in: {stderr}");
    }
}
