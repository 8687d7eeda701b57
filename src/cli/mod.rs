//! What can be asked of `kiket` on a command line, and which exit code tells how it went.
//!
//! One command per file. Codes: 0 fine, 1 a finding, 2 usage or configuration, 3 server or store away, 4 refused.

pub mod audit_export;
mod completions;
mod config;
mod demo;
mod keys;
mod openapi;
mod serve;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
  kiket config print --manual                   every setting, explained

Exit codes: 0 fine, 1 a finding, 2 usage or configuration, 3 server or store away, 4 refused.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar: data plane, REST API, metrics
    Serve(serve::Args),
    /// See one delivery end to end: nothing to configure, no network
    Demo(demo::Args),
    /// Make the keys that seal every secret
    Keys(keys::Args),
    /// Check or print the configuration
    Config(config::Args),
    /// Print the REST API's OpenAPI 3.1 document
    Openapi,
    /// Print completions for a shell
    Completions(completions::Args),
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
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Finding => 1,
            Self::Usage => 2,
            Self::Unavailable => 3,
        }
    }
}

/// Parses the command line and runs it. Usage errors and `--help` end the process from within.
#[must_use]
pub fn run() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Openapi => openapi::run(),
        Command::Completions(args) => completions::run(&args),
    };
    ExitCode::from(exit.code())
}

/// Prints a command's result. A reader that went away is no fault of ours.
fn say(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Exit::Fine
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
