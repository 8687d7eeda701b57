//! `kiket organizations providers`: where an organization's references are looked up.

mod check;
mod delete;
mod list;
mod set;
mod show;

use clap::Subcommand;
use serde_json::Value;

use crate::cli::remote::{self, Remote};
use crate::cli::table::{ABSENT, facts, moment_text, printable, text};
use crate::cli::{Failure, Outcome};
use crate::domain::provider::ProviderName;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket organizations providers list acme
  kiket organizations providers check acme main")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List providers
    List(list::Args),
    /// Show one provider
    Show(show::Args),
    /// Configure a provider, or change one
    Set(Box<set::Args>),
    /// Remove a provider
    Delete(delete::Args),
    /// Try whether a provider can be reached and takes its credential
    Check(check::Args),
}

/// Which provider.
#[derive(Debug, clap::Args)]
struct Which {
    /// The organization; else that of --organization
    #[arg(value_name = "ORGANIZATION", value_parser = remote::organization)]
    organization: Option<String>,
    /// What the organization calls it
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
}

impl Which {
    fn organization<'a>(&'a self, remote: &'a Remote) -> Result<&'a str, Failure> {
        organization(self.organization.as_ref(), remote)
    }
}

fn organization<'a>(named: Option<&'a String>, remote: &'a Remote) -> Result<&'a str, Failure> {
    let named = named.or(remote.organization.as_ref()).map(String::as_str);
    named.ok_or_else(|| {
        Failure::usage(
            "name the organization before the provider, for example `kiket organizations providers show acme main`",
        )
    })
}

fn name(text: &str) -> Result<String, String> {
    let parsed = ProviderName::parse(text).map_err(|error| error.to_string())?;
    Ok(parsed.to_string())
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    match &args.command {
        Command::List(list) => list::run(list, remote),
        Command::Show(show) => show::run(show, remote),
        Command::Set(set) => set::run(set, remote),
        Command::Delete(delete) => delete::run(delete, remote),
        Command::Check(check) => check::run(check, remote),
    }
}

/// A provider, one fact a line; what does not concern its kind is left out.
fn told(provider: &Value) -> String {
    let auth = provider.get("auth").unwrap_or(&Value::Null);
    let seconds = |ttl: String| format!("{ttl} s");
    let all = [
        ("Provider", text(provider, "name")),
        ("Organization", text(provider, "organization_id")),
        ("Kind", text(provider, "kind")),
        ("Address", text(provider, "address")),
        ("Namespace", text(provider, "namespace")),
        ("Mounts", mounts(provider)),
        ("Path prefix", text(provider, "path_prefix")),
        ("Asked with", text(auth, "method")),
        ("Login mounted at", text(auth, "mount")),
        ("Role", text(auth, "role")),
        ("Credential in", text(auth, "credential_key")),
        ("Authorities in", text(provider, "ca_key")),
        ("Default", text(provider, "default")),
        ("Values are used for", seconds(text(provider, "ttl"))),
        ("Version", text(provider, "version")),
        ("Changed", moment_text(provider, "updated_at")),
    ];
    let said: Vec<_> = all.into_iter().filter(|(_, fact)| fact != ABSENT).collect();
    facts(&said)
}

/// The KV engines as `set` takes them.
fn mounts(provider: &Value) -> String {
    let mounts = provider.get("mounts").and_then(Value::as_object);
    let named = mounts.into_iter().flatten();
    let named: Vec<String> = named
        .map(|(mount, version)| format!("{}={version}", printable(mount)))
        .collect();
    if named.is_empty() {
        ABSENT.to_owned()
    } else {
        named.join(", ")
    }
}
