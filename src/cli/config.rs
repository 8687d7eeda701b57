//! How settings are given on the command line, and the commands that check and print them.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Exit, Failure, fail, say};
use crate::app;
use crate::config::{Config, ConfigError, DEFAULT_TOML, secret_file};
use crate::server::server_tls;

/// Where settings come from, for every command that needs them.
#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over file and environment; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    overrides: Vec<String>,
    /// Which planes to serve; the same as `--set role=…`
    #[arg(long, value_parser = ["all", "proxy", "admin"])]
    role: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket config check --config /etc/kiket/kiket.toml
  kiket config print --set log_format=text
  kiket config print --manual")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  kiket config check --config /etc/kiket/kiket.toml
  KIKET_MASTER_KEY_FILE=master.key kiket config check --set workers=2

`kiket doctor` looks further: at the store, the network and the kernel.";

const PRINT_EXAMPLES: &str = "\
Examples:
  kiket config print --config /etc/kiket/kiket.toml
  kiket config print --manual > kiket.toml";

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether `kiket serve` would start with these settings; reads the files that they name
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        #[command(flatten)]
        settings: Settings,
    },
    /// Print the settings in force and where each came from, without secrets
    #[command(after_help = PRINT_EXAMPLES)]
    Print {
        #[command(flatten)]
        settings: Settings,
        /// Print the manual instead: every setting, explained, with its default
        #[arg(long)]
        manual: bool,
    },
}

impl Settings {
    /// The same, or how the command ends.
    pub(super) fn loaded(&self) -> Result<Config, Failure> {
        self.load().map_err(|error| Failure::usage(error.to_string()))
    }

    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        // Not clap's parser: its errors quote the text, which can hold a secret by mistake.
        let overrides: Option<Vec<_>> = self.overrides.iter().map(|text| pair(text)).collect();
        let mut overrides = overrides.ok_or(ConfigError::Override)?;
        overrides.extend(self.role.iter().map(|role| (String::from("role"), role.clone())));
        Config::load(self.config.as_deref(), env, &overrides)
    }
}

pub(super) fn run(args: &Args) -> Exit {
    match &args.command {
        Command::Print { manual: true, .. } => say(DEFAULT_TOML),
        Command::Print { settings, .. } => match settings.load() {
            Ok(config) => say(&config.print()),
            Err(error) => fail(Exit::Usage, &error),
        },
        Command::Check { settings } => match settings.loaded().and_then(|config| check(&config)) {
            Ok(()) => say("the configuration is fine\n"),
            Err(failure) => fail(failure.exit, &failure.reason),
        },
    }
}

/// Reads what the settings name, the keys as a start does.
fn check(config: &Config) -> Result<(), Failure> {
    app::read_keys(config)?;
    files(config)
}

/// Reads what the settings name beside the keys.
pub(super) fn files(config: &Config) -> Result<(), Failure> {
    readable("bootstrap_token_file", config.bootstrap_token_file.as_deref())?;
    readable("dispatcher_token_file", config.dispatcher_token_file.as_deref())?;
    match (&config.admin_tls_cert_file, &config.admin_tls_key_file) {
        (Some(certificate), Some(key)) => server_tls(certificate, key)
            .map(drop)
            .map_err(|error| Failure::usage(error.to_string())),
        _ => Ok(()),
    }
}

fn readable(setting: &str, file: Option<&Path>) -> Result<(), Failure> {
    let read = file.map(secret_file).transpose();
    read.map(drop)
        .map_err(|error| Failure::usage(format!("{setting}: {error}")))
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim().to_owned(), value.to_owned()))
}
