//! Which of default, file, environment and flag sets a setting: the later one wins, and it is known which did.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use toml::de::DeTable;
use toml::{Table, Value};

use super::{ConfigError, DEFAULT_TOML};

/// Every setting's name, in the manual's order.
pub const SETTINGS: &[&str] = &[
    "role",
    "proxy_listen",
    "admin_listen",
    "admin_tls_cert_file",
    "admin_tls_key_file",
    "metrics_listen",
    "master_key_file",
    "master_key_transit_url",
    "master_key_transit_key",
    "master_key_transit_mount",
    "master_key_transit_namespace",
    "master_key_transit_auth",
    "master_key_transit_auth_mount",
    "master_key_transit_role",
    "master_key_transit_credential_file",
    "master_key_transit_wait",
    "bootstrap_token_file",
    "dispatcher_token_file",
    "database_url",
    "egress_allow_cidrs",
    "egress_ca_file",
    "dangerous_allow_http",
    "connect_timeout",
    "gsm_url",
    "gsm_metadata_url",
    "payload_bytes_max",
    "response_bytes_max",
    "connections_max",
    "in_flight_max",
    "buffered_bytes_max",
    "organization_share_percent",
    "destination_share_percent",
    "api_rate_per_second",
    "api_burst",
    "header_read_timeout",
    "body_read_timeout",
    "workers",
    "max_stale",
    "bundle_idle",
    "runtime_token_jwks_url",
    "runtime_token_issuer",
    "signature_prefix",
    "echo_policy",
    "leak_assertion",
    "drain_grace",
    "require_guards",
    "smtp_url",
    "smtp_from",
    "smtp_credentials_file",
    "secret_audit_every",
    "otlp_traces_url",
    "otlp_traces_one_in",
    "log",
    "log_format",
];

/// Where a setting's value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The embedded `default.toml`.
    Default,
    /// The file given with `--config`.
    File,
    /// A `KIKET_…` variable.
    Environment,
    /// A flag.
    Flag,
}

impl Source {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The winning text of each setting that has one.
#[derive(Clone, Default)]
pub(super) struct Layers(BTreeMap<&'static str, (String, Source)>);

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, (_, source))| (name, source)))
            .finish()
    }
}

impl Layers {
    pub(super) fn read(
        file: Option<&str>,
        env: impl Fn(&str) -> Option<String>,
        overrides: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        layers.add_toml(DEFAULT_TOML, Source::Default)?;
        if let Some(text) = file {
            layers.add_toml(text, Source::File)?;
        }
        for name in SETTINGS {
            if let Some(text) = env(&format!("KIKET_{}", name.to_ascii_uppercase())) {
                layers.0.insert(name, (text, Source::Environment));
            }
        }
        for (name, text) in overrides {
            let name = known(name).ok_or(ConfigError::UnknownOverride)?;
            layers.0.insert(name, (text.clone(), Source::Flag));
        }
        Ok(layers)
    }

    /// A setting that always has a value.
    pub(super) fn get<T>(
        &self,
        setting: &'static str,
        parse: fn(&str) -> Result<T, &'static str>,
    ) -> Result<T, ConfigError> {
        let (text, origin) = self
            .0
            .get(setting)
            .map_or(("", Source::Default), |(text, origin)| (text, *origin));
        parse(text).map_err(|expected| ConfigError::Value {
            setting,
            origin,
            expected,
        })
    }

    /// A setting that may be left out; an empty text leaves it out, too.
    pub(super) fn optional<T>(
        &self,
        setting: &'static str,
        parse: fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, ConfigError> {
        match self.0.get(setting) {
            Some((text, _)) if !text.is_empty() => self.get(setting, parse).map(Some),
            _ => Ok(None),
        }
    }

    /// Every setting as a line of TOML, with its source.
    pub(super) fn print(&self) -> String {
        let mut text = String::new();
        for name in SETTINGS {
            let _ = match self.0.get(name) {
                None => writeln!(text, "# {name} is not set"),
                // A URL of a server may hold a password, and not only before an `@`.
                Some((value, source)) if *name == "database_url" && !value.starts_with("sqlite:") => {
                    writeln!(text, "# {name} is set, and not shown # {source}")
                }
                Some((value, source)) => writeln!(text, "{name} = {} # {source}", literal(value)),
            };
        }
        text
    }

    fn add_toml(&mut self, text: &str, source: Source) -> Result<(), ConfigError> {
        let line = |offset: Option<usize>| line_of(text, offset.unwrap_or(0));
        let syntax = |error: &toml::de::Error| ConfigError::Syntax {
            line: line(error.span().map(|span| span.start)),
        };
        let spans = DeTable::parse(text).map_err(|error| syntax(&error))?;
        if let Some(unknown) = spans.get_ref().keys().find(|key| known(key.get_ref()).is_none()) {
            return Err(ConfigError::UnknownInFile {
                line: line(Some(unknown.span().start)),
            });
        }
        let table: Table = toml::from_str(text).map_err(|error| syntax(&error))?;
        for (name, value) in table {
            let Some(setting) = known(&name) else { continue };
            let text = plain(&value).ok_or(ConfigError::Value {
                setting,
                origin: source,
                expected: "a text, a number, true, false, or a list of texts",
            })?;
            self.0.insert(setting, (text, source));
        }
        Ok(())
    }
}

fn known(name: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|setting| **setting == name).copied()
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|b| *b == b'\n')
        .count()
        .saturating_add(1)
}

/// The text that the environment would hold for a value.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// A TOML literal that reads back as the text.
fn literal(text: &str) -> String {
    let canonical_number = text.parse::<u32>().is_ok_and(|number| number.to_string() == text);
    if canonical_number || text == "true" || text == "false" {
        text.to_owned()
    } else {
        Value::String(text.replace(['\n', '\r'], " ")).to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn read(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Layers, ConfigError> {
        let env = |name: &str| {
            env.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let flags: Vec<_> = flags.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Layers::read(Some(file), env, &flags)
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
        let of = |layers: Layers| layers.0["log"].clone();
        assert_eq!(of(read("", &[], &[]).unwrap()), ("info".into(), Source::Default));
        let file = "log = 'a'";
        assert_eq!(of(read(file, &[], &[]).unwrap()), ("a".into(), Source::File));
        let env = [("KIKET_LOG", "b")];
        assert_eq!(of(read(file, &env, &[]).unwrap()), ("b".into(), Source::Environment));
        assert_eq!(
            of(read(file, &env, &[("log", "c")]).unwrap()),
            ("c".into(), Source::Flag)
        );
    }

    #[test]
    fn faults_of_the_file_are_placed_and_not_quoted() {
        assert_eq!(
            read("\nlog = \n", &[], &[]).unwrap_err(),
            ConfigError::Syntax { line: 2 }
        );
        assert_eq!(
            read("log = 'a'\n\nhush = 1\n", &[], &[]).unwrap_err(),
            ConfigError::UnknownInFile { line: 3 }
        );
        let wrong = read("workers = 1.5", &[], &[]).unwrap_err();
        assert!(
            wrong.to_string().starts_with("workers, set by file, must be "),
            "{wrong}"
        );
    }

    #[test]
    fn what_is_printed_reads_back_the_same_and_hides_a_password() {
        let flags = [
            ("workers", "4"),
            ("egress_allow_cidrs", "10.0.0.0/8,::1/128"),
            ("egress_ca_file", "a\"b"),
        ];
        let layers = read("dangerous_allow_http = true", &[], &flags).unwrap();
        let again = read(&layers.print(), &[], &[]).unwrap();
        assert!(layers.print().contains("workers = 4 # flag\n"));
        for (name, (text, _)) in &layers.0 {
            assert_eq!(&again.0[name].0, text);
        }
        for secret in ["u:hunter2@db/k", "db/k?user=u&password=hunter2"] {
            let secret = read(&format!("database_url = 'postgres://{secret}'"), &[], &[]).unwrap();
            assert!(!secret.print().contains("hunter2") && !format!("{secret:?}").contains("hunter2"));
        }
    }

    #[test]
    fn the_manual_explains_every_setting_in_order() {
        let lines: Vec<&str> = DEFAULT_TOML.lines().collect();
        let mut documented = Vec::new();
        for (position, line) in lines.iter().enumerate() {
            let line = line.strip_prefix("# ").unwrap_or(line);
            if let Some(name) = line.split_once(" = ").and_then(|(name, _)| known(name)) {
                assert!(lines[position - 1].starts_with("# "), "{name} has no explanation");
                documented.push(name);
            }
        }
        assert_eq!(documented.len(), SETTINGS.len());
        assert!(SETTINGS.iter().all(|name| documented.contains(name)));
    }
}
