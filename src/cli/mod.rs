//! What can be asked of `kiket` on a command line, and which exit code tells how it went.
//!
//! One command per file. Codes: 0 fine, 1 a finding, 2 usage or configuration, 3 server or store away, 4 refused.

pub mod audit_export;
mod candidates;
pub mod client;
mod completions;
mod config;
mod deliver;
mod demo;
mod doctor;
mod env_file;
mod extensions;
mod keys;
mod man;
mod marketplace;
mod moment;
mod openapi;
mod organizations;
mod progress;
mod prompt;
mod remote;
mod secrets;
mod serve;
mod store;
mod table;
mod tokens;
mod value;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::KeysUnread;
use client::ClientError;

/// Secret-injecting webhook proxy and Secret Store for Kiket extensions.
#[derive(Debug, Parser)]
#[command(name = "kiket", version, about, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kiket demo --once                             see one delivery end to end, nothing to configure
  (umask 077; kiket keys generate > master.key) make the keys that seal every secret
  KIKET_MASTER_KEY_FILE=master.key kiket serve  run the sidecar
  kiket doctor                                  what a start needs, and what to do where it is not there
  kiket config print --manual                   every setting, explained
  kiket extensions secrets --help               the secrets of a running server

Commands that talk to a server find it with --url or KIKET_URL, and show it the token of --token-file or KIKET_TOKEN.

Exit codes: 0 fine, 1 a finding, 2 usage or configuration, 3 server or store away, 4 refused.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar: data plane, REST API, metrics
    Serve(serve::Args),
    /// See one delivery end to end: nothing to configure, no network
    Demo(demo::Args),
    /// List, set, link, rotate and explain the secrets of extensions
    Extensions(extensions::Args),
    /// Install extensions, see what they still need, enable them
    Marketplace(marketplace::Args),
    /// Read the audit log, see alerts and health
    Secrets(secrets::Args),
    /// Make, list and remove API tokens
    Tokens(tokens::Args),
    /// What an organization wants to be told, and where its references are looked up
    Organizations(organizations::Args),
    /// Make, rotate and retire the keys that seal every secret
    Keys(keys::Args),
    /// Copy all rows from one database to another, verified
    Store(store::Args),
    /// Check or print the configuration
    Config(config::Args),
    /// Look at what a start needs and say what to do; changes nothing
    Doctor(doctor::Args),
    /// Send a recorded invocation through a running sidecar, or show what would be sent
    Deliver(deliver::Args),
    /// Print the REST API's OpenAPI 3.1 document
    #[command(after_help = openapi::EXAMPLE)]
    Openapi,
    /// Print completions for a shell
    Completions(completions::Args),
    /// Write a page of the manual for every command
    #[command(hide = true)]
    Man(man::Args),
    /// Say what could stand at the end of a command line; completions ask
    #[command(name = "__complete", hide = true)]
    Candidates(candidates::Args),
}

/// How a command went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// As asked.
    Fine,
    /// Something was found that should not be.
    Finding,
    /// The command or the configuration has to be changed.
    Usage,
    /// The server or the store is away: again later.
    Unavailable,
    /// The server refused.
    Refused,
}

/// Why a command did not do what was asked: for stderr, and for the exit code.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    reason: String,
}

/// How a command ends.
type Outcome = Result<Exit, Failure>;

impl Failure {
    fn usage(reason: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            reason: reason.into(),
        }
    }
}

/// A Vault that is away may come back; the rest is for an operator to change.
impl From<KeysUnread> for Failure {
    fn from(error: KeysUnread) -> Self {
        Self {
            exit: match error.may_pass() {
                true => Exit::Unavailable,
                false => Exit::Usage,
            },
            reason: error.to_string(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Setting(_) => Exit::Usage,
            ClientError::Away(_) => Exit::Unavailable,
            ClientError::Refused(problem) => match (problem.name(), problem.status) {
                ("required-secrets-missing", _) => Exit::Finding,
                ("destination-refused", _) => Exit::Refused,
                (_, 400 | 413 | 415 | 422) => Exit::Usage,
                (_, 429 | 500..) => Exit::Unavailable,
                _ => Exit::Refused,
            },
        };
        Self {
            exit,
            reason: error.to_string(),
        }
    }
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Finding => 1,
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::Refused => 4,
        }
    }
}

/// Parses the command line and runs it. Usage errors and `--help` end the process from within.
#[must_use]
pub fn run() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Extensions(args) => ended(extensions::run(args)),
        Command::Marketplace(args) => ended(marketplace::run(args)),
        Command::Secrets(args) => ended(secrets::run(&args)),
        Command::Tokens(args) => ended(tokens::run(&args)),
        Command::Organizations(args) => ended(organizations::run(&args)),
        Command::Keys(args) => keys::run(&args),
        Command::Store(args) => ended(store::run(&args)),
        Command::Config(args) => config::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Deliver(args) => ended(deliver::run(&args)),
        Command::Openapi => openapi::run(),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Candidates(args) => candidates::run(args),
    };
    ExitCode::from(exit.code())
}

/// Prints a command's result. A reader that went away is no fault of ours.
fn say(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Exit::Fine
}

fn ended(outcome: Outcome) -> Exit {
    outcome.unwrap_or_else(|failure| fail(failure.exit, &failure.reason))
}

/// Says on stderr what somebody should know, although the command goes on.
fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "warning: {text}");
}

/// Says on stderr why a command failed.
fn fail(exit: Exit, reason: &dyn Display) -> Exit {
    let _ = writeln!(io::stderr().lock(), "kiket: {reason}");
    exit
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_are_given_with_their_flags() {
        assert!(Cli::try_parse_from(["kiket", "serve", "--set", "workers=2", "--config", "f"]).is_ok());
        assert!(Cli::try_parse_from(["kiket", "serve", "--set"]).is_err());
        assert!(Cli::try_parse_from(["kiket", "demo", "--once"]).is_ok());
    }
}
