//! `kiket marketplace install`: an extension, its values, and where all are there, its first delivery.

use std::path::{Path, PathBuf};

use http::Method;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::checklist::Installed;
use super::wizard::{self, Filled};
use super::{state, status};
use crate::cli::client::{Call, Client};
use crate::cli::env_file::Entry;
use crate::cli::extensions::write;
use crate::cli::remote::Remote;
use crate::cli::{Failure, Outcome, prompt, value, warn};
use crate::domain::id::ExtensionId;
use crate::domain::manifest::Manifest;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket marketplace install com.example.mailchimp --project web
  kiket marketplace install com.example.mailchimp --project web --env-file .env.mailchimp --yes
  kiket marketplace install ./manifest.yaml --project web --scaffold

At a terminal it asks for what is missing: values for the whole organization first, then the project's. Else it takes
what --env-file has. A key that organization-wide credentials satisfy keeps them, also where --env-file names it.
Exit code 1: installed, and a required key has no value.")]
pub(super) struct Args {
    /// The extension's id, or its manifest's file, which is registered first (operators only)
    #[arg(value_name = "EXTENSION_ID|MANIFEST")]
    extension: String,
    /// The project
    #[arg(long, value_name = "ID")]
    project: String,
    /// The product installation that it belongs to
    #[arg(long, value_name = "ID")]
    product: Option<String>,
    /// The installation's id; else the server makes one
    #[arg(long = "id", value_name = "ID")]
    installation: Option<String>,
    /// A callback in place of the manifest's
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,
    /// A dotenv file with values for keys of the checklist
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Leave a placeholder for every key that has no value
    #[arg(long)]
    scaffold: bool,
    /// Ask nothing; enable it where nothing required is missing
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let entries = args.env_file.as_deref().map(value::read).transpose()?;
    let client = remote.client()?;
    let extension = extension(args, &client)?;
    let document = client.call(install(args, &extension, remote))?.body;
    let installed = Installed::read(&document)?;
    let finished = finish(args, remote, &client, installed.id.clone(), installed, entries);
    finished.map_err(|failure| Failure {
        reason: format!(
            "{}\n  the extension is installed: `kiket marketplace status`",
            failure.reason
        ),
        ..failure
    })
}

fn install(args: &Args, extension: &str, remote: &Remote) -> Call<'static> {
    let mut members = Map::new();
    members.insert("extension_id".into(), extension.into());
    members.insert("project_id".into(), args.project.as_str().into());
    let optional = [
        ("organization_id", &remote.organization),
        ("product_installation_id", &args.product),
        ("id", &args.installation),
        ("callback_url", &args.callback_url),
    ];
    for (name, text) in optional {
        members.extend(text.clone().map(|text| (name.to_owned(), text.into())));
    }
    if args.scaffold {
        members.insert("scaffold".into(), true.into());
    }
    Call::new(Method::POST, &["marketplace", "installations"]).json(&members.into())
}

fn finish(
    args: &Args,
    remote: &Remote,
    client: &Client,
    id: String,
    installed: Installed,
    entries: Option<Vec<Entry>>,
) -> Outcome {
    let mut installed = installed;
    if let (Some(entries), Some(path)) = (entries, &args.env_file) {
        store(client, &installed, from_file(path, &installed, entries)?)?;
        installed = Installed::read(&status::read(client, &id)?)?;
    }
    let is_asking = !args.yes && prompt::is_possible();
    if is_asking {
        store(client, &installed, wizard::ask(&installed)?)?;
        installed = Installed::read(&status::read(client, &id)?)?;
    }
    let is_complete = installed.missing.is_empty();
    let document = if is_complete && (args.yes || (is_asking && prompt::agreed("enable it now?", true)?)) {
        state::change(client, &id, "enabled")?
    } else {
        status::read(client, &id)?
    };
    status::show(remote, &document)
}

/// The extension's id: as given, or of the manifest that is registered now.
fn extension(args: &Args, client: &Client) -> Result<String, Failure> {
    let given = args.extension.as_str();
    let path = Path::new(given);
    let is_id = ExtensionId::parse(given).is_ok() && !path.is_file();
    if is_id {
        return Ok(given.to_owned());
    }
    let named = |reason: String| Failure::usage(format!("{given}: {reason}"));
    let text = std::fs::read_to_string(path).map_err(|error| {
        named(format!(
            "neither an extension's id, which has a dot and no slash, nor a readable file ({})",
            error.kind()
        ))
    })?;
    let manifest = Manifest::parse(&text).map_err(|error| named(error.to_string()))?;
    let media_type = if text.trim_start().starts_with('{') {
        "application/json"
    } else {
        "application/yaml"
    };
    let path = ["extensions", manifest.id.as_str()];
    client.call(Call::new(Method::PUT, &path).document(media_type, text.into()))?;
    Ok(manifest.id.to_string())
}

/// What a dotenv file has for the checklist. Shared credentials that are there already stay.
fn from_file<'a>(path: &Path, installed: &'a Installed, entries: Vec<Entry>) -> Result<Vec<Filled<'a>>, Failure> {
    let mut values = Vec::new();
    let mut strangers = Vec::new();
    for entry in entries {
        let Some(line) = installed.checklist.iter().find(|line| line.key == entry.key) else {
            strangers.push(entry.key);
            continue;
        };
        if let (true, Some(using)) = (line.is_shared(), line.using()) {
            prompt::say(&format!("{}: {using}; not taken from {}\n", line.key, path.display()));
            continue;
        }
        let entry = value::checked_entry(path, entry)?;
        values.push(Filled {
            target: installed.target(line),
            line,
            value: entry.value,
        });
    }
    if !strangers.is_empty() {
        let keys = strangers.join(", ");
        warn(&format!(
            "{}: the extension does not ask for {keys}; not stored",
            path.display()
        ));
    }
    Ok(values)
}

/// Writes all or none.
fn store(client: &Client, installed: &Installed, values: Vec<Filled<'_>>) -> Result<(), Failure> {
    let members = |filled: &Filled<'_>| {
        let (scope, id) = filled.target;
        let texts = [
            ("scope", scope),
            ("id", id),
            ("key", &filled.line.key),
            ("organization_id", &installed.organization_id),
        ];
        texts
            .map(|(name, text)| (name.to_owned(), Value::from(text)))
            .into_iter()
            .collect()
    };
    let secrets: Vec<(Map<String, Value>, &SecretString)> =
        values.iter().map(|filled| (members(filled), &filled.value)).collect();
    if secrets.is_empty() {
        return Ok(());
    }
    write(client, &secrets).map(drop)
}
