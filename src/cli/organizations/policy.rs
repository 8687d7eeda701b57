//! `kiket organizations policy get` and `set`: one rule is changed, the others stay.

use clap::Subcommand;
use http::Method;
use serde_json::{Map, Value};

use crate::cli::client::{Call, Client, ClientError};
use crate::cli::remote::{self, Remote};
use crate::cli::table::{ABSENT, facts, text};
use crate::cli::{Exit, Failure, Outcome};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the policy in force
    #[command(after_help = "Example:\n  kiket organizations policy get acme")]
    Get(Whose),
    /// Change rules; those that are not named stay as they are
    #[command(after_help = "\
Examples:
  kiket organizations policy set acme --rotation-max-age-days 30
  kiket organizations policy set acme --email ops@acme.example --email security@acme.example
  kiket organizations policy set acme --webhook-url https://acme.example/alerts --webhook-signing-key ALERT_SECRET
  kiket organizations policy set acme --retention-days off")]
    Set(Box<Rules>),
}

#[derive(Debug, clap::Args)]
pub(super) struct Whose {
    /// The organization; else that of --organization
    #[arg(value_name = "ORGANIZATION", value_parser = remote::organization)]
    id: Option<String>,
}

/// The rules by name. `off` takes an optional one back.
#[derive(Debug, clap::Args)]
pub(super) struct Rules {
    #[command(flatten)]
    whose: Whose,
    /// After so many days without a rotation a value is overdue
    #[arg(long, value_name = "DAYS")]
    rotation_max_age_days: Option<u32>,
    /// More reads of one key within the window raise an alert
    #[arg(long, value_name = "COUNT")]
    read_threshold: Option<u32>,
    /// The window, in seconds
    #[arg(long, value_name = "SECONDS")]
    read_window_secs: Option<u32>,
    /// More deliveries of one key within the window raise an alert
    #[arg(long, value_name = "COUNT|off", value_parser = count_or_off)]
    delivery_read_threshold: Option<Value>,
    /// After so many days without a use a value is unused
    #[arg(long, value_name = "DAYS|off", value_parser = count_or_off)]
    unused_days: Option<Value>,
    /// Audit entries that are older may be removed
    #[arg(long, value_name = "DAYS|off", value_parser = count_or_off)]
    retention_days: Option<Value>,
    /// Where alerts are posted
    #[arg(long, value_name = "URL|off", value_parser = text_or_off)]
    webhook_url: Option<Value>,
    /// The key of the organization's secret that signs these posts
    #[arg(long, value_name = "KEY|off", value_parser = text_or_off)]
    webhook_signing_key: Option<Value>,
    /// Whom alerts are mailed to; may be repeated; replaces those before
    #[arg(long = "email", value_name = "ADDRESS|off")]
    emails: Vec<String>,
}

/// What a policy says besides its rules; the server does not take it back.
const NOT_RULES: &[&str] = &["organization_id", "version", "updated_at"];

fn count_or_off(text: &str) -> Result<Value, String> {
    match text {
        "off" => Ok(Value::Null),
        text => text
            .parse::<u32>()
            .map(Value::from)
            .map_err(|_| String::from("a count, or off")),
    }
}

fn text_or_off(text: &str) -> Result<Value, std::convert::Infallible> {
    Ok(match text {
        "off" => Value::Null,
        text => text.into(),
    })
}

impl Rules {
    /// The rules that are named.
    fn named(&self) -> Map<String, Value> {
        let mut rules = Map::new();
        let counts = [
            ("rotation_max_age_days", self.rotation_max_age_days),
            ("read_threshold", self.read_threshold),
            ("read_window_secs", self.read_window_secs),
        ];
        let optional = [
            ("delivery_read_threshold", &self.delivery_read_threshold),
            ("unused_days", &self.unused_days),
            ("retention_days", &self.retention_days),
            ("webhook_url", &self.webhook_url),
            ("webhook_signing_key", &self.webhook_signing_key),
        ];
        for (name, count) in counts {
            rules.extend(count.map(|count| (name.to_owned(), count.into())));
        }
        for (name, rule) in optional {
            rules.extend(rule.clone().map(|rule| (name.to_owned(), rule)));
        }
        if !self.emails.is_empty() {
            let addresses: Vec<&String> = self.emails.iter().filter(|address| *address != "off").collect();
            rules.insert("emails".into(), addresses.into_iter().cloned().collect());
        }
        rules
    }
}

pub(super) fn run(command: &Command, remote: &Remote) -> Outcome {
    match command {
        Command::Get(whose) => {
            let policy = read(&remote.client()?, &organization(whose, remote)?)?;
            Ok(remote.show(&policy, told))
        }
        Command::Set(rules) => set(rules, remote),
    }
}

fn set(rules: &Rules, remote: &Remote) -> Outcome {
    let organization = organization(&rules.whose, remote)?;
    let named = rules.named();
    if named.is_empty() {
        return Err(Failure::usage(
            "name a rule to change, for example --rotation-max-age-days 30",
        ));
    }
    let client = remote.client()?;
    let before = read(&client, &organization)?;
    let version = before.get("version").and_then(Value::as_u64);
    let mut policy = before.as_object().cloned().unwrap_or_default();
    policy.retain(|name, _| !NOT_RULES.contains(&name.as_str()));
    policy.extend(named);
    let path = ["organizations", organization.as_str(), "policy"];
    let call = Call::new(Method::PUT, &path)
        .json(&Value::Object(policy))
        .at_version(version.filter(|version| *version > 0)); // nothing to match before the first
    remote.show(&client.call(call)?.body, told);
    Ok(Exit::Fine)
}

fn read(client: &Client, organization: &str) -> Result<Value, ClientError> {
    Ok(client.call(Call::get(&["organizations", organization, "policy"]))?.body)
}

fn organization(whose: &Whose, remote: &Remote) -> Result<String, Failure> {
    let named = whose.id.as_ref().or(remote.organization.as_ref()).cloned();
    named.ok_or_else(|| Failure::usage("name the organization, for example `kiket organizations policy get acme`"))
}

fn told(policy: &Value) -> String {
    let or_off = |name: &str, unit: &str| match text(policy, name).as_str() {
        ABSENT => String::from("off"),
        count => format!("{count}{unit}"),
    };
    let threshold = text(policy, "read_threshold");
    let window = policy.get("read_window_secs").and_then(Value::as_u64).unwrap_or(0);
    let window = crate::cli::moment::span(window);
    facts(&[
        ("Organization", text(policy, "organization_id")),
        (
            "A value is overdue after",
            format!("{} days", text(policy, "rotation_max_age_days")),
        ),
        ("A value is unused after", or_off("unused_days", " days")),
        (
            "Alert on reads of a key",
            format!("more than {threshold} within {window}"),
        ),
        (
            "Alert on deliveries of a key",
            or_off("delivery_read_threshold", &format!(" within {window}")),
        ),
        (
            "Audit entries are kept",
            or_off("retention_days", " days").replace("off", "forever"),
        ),
        ("Alerts are posted to", text(policy, "webhook_url")),
        ("Signed with", text(policy, "webhook_signing_key")),
        ("Alerts are mailed to", text(policy, "emails")),
    ])
}
