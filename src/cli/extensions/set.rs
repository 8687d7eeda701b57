//! `kiket extensions secrets set`: one value, or all of a dotenv file.

use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::slot::{self, At, told, warn_of_new_scopes};
use crate::cli::client::{Call, Client, SecretBody};
use crate::cli::progress::Progress;
use crate::cli::remote::{Form, Remote, json};
use crate::cli::value::{self, Given};
use crate::cli::{Failure, Outcome, moment, say, warn};
use crate::clock::{Clock, SystemClock};
use crate::domain::key::SecretKey;
use crate::secrets::manage::SECRETS_PER_WRITE_MAX;

/// What fits into one request: less than the server takes, because of the members around.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024 - 4 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket extensions secrets set --key FOO                                   asks for the value
  printf %s \"$VALUE\" | kiket extensions secrets set --scope project --id web --key FOO
  kiket extensions secrets set --scope extension --id com.example.mailchimp \\
      --key MAILCHIMP_API_KEY --env-file .env.mailchimp
  kiket extensions secrets set --scope extension --id com.example.mailchimp --env-file .env.mailchimp

All entries of a file are written together: all or none.")]
pub(super) struct Args {
    #[command(flatten)]
    at: At,
    /// The key; with --env-file it may be left out
    #[arg(long, value_name = "KEY", value_parser = slot::key, required_unless_present = "env_file")]
    key: Option<SecretKey>,
    /// For everybody who installs the extension: operators only, scope extension only
    #[arg(long)]
    partner_default: bool,
    /// When the value ends: a moment, a date, or a span from now
    #[arg(long, value_name = "WHEN", value_parser = end)]
    expires: Option<String>,
    /// Whom to ask about it; stays as it is where left out
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Only where the secret is at this version
    #[arg(long, value_name = "N", requires = "key")]
    if_version: Option<u64>,
    #[command(flatten)]
    given: Given,
}

pub(super) fn end(text: &str) -> Result<String, String> {
    moment::parse_future(text, SystemClock.now())
}

pub(super) fn run(args: Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let mut members = args.at.place(remote, args.partner_default)?.members();
    members.extend(args.expires.map(|end| (String::from("expires_at"), end.into())));
    members.extend(args.owner.map(|owner| (String::from("owner"), owner.into())));
    match (args.key, args.given.env_file.clone()) {
        (Some(key), _) => one(&client, members, &key, args.given, args.if_version, remote),
        (None, Some(file)) => many(&client, &members, &value::all(&file)?, remote),
        (None, None) => Err(Failure::usage("--key says which secret to set")),
    }
}

fn one(
    client: &Client,
    mut members: Map<String, Value>,
    key: &SecretKey,
    given: Given,
    version: Option<u64>,
    remote: &Remote,
) -> Outcome {
    let value = given.one(key)?;
    members.insert("key".into(), key.as_str().into());
    let call = Call::new(http::Method::POST, &["extensions", "secrets"])
        .secret(SecretBody::one(&members, &value))
        .at_version(version);
    let answer = client.call(call)?;
    warn_of_new_scopes([&answer.body]);
    let what = if answer.status == http::StatusCode::CREATED {
        "created"
    } else {
        "replaced"
    };
    Ok(remote.show(&answer.body, |secret| told(what, secret)))
}

/// All or none, as far as one request holds them.
fn many(
    client: &Client,
    members: &Map<String, Value>,
    values: &[(SecretKey, SecretString)],
    remote: &Remote,
) -> Outcome {
    let secrets = write(client, &with_keys(members, values))?;
    Ok(match remote.output {
        Form::Json => say(&json(&json!({ "data": secrets, "next_cursor": null }))),
        Form::Table => say(&secrets.iter().map(|secret| told("set", secret)).collect::<String>()),
    })
}

fn with_keys<'a>(
    members: &Map<String, Value>,
    values: &'a [(SecretKey, SecretString)],
) -> Vec<(Map<String, Value>, &'a SecretString)> {
    let with_key = |key: &SecretKey| {
        let mut members = members.clone();
        members.insert("key".into(), key.as_str().into());
        members
    };
    values.iter().map(|(key, value)| (with_key(key), value)).collect()
}

/// Writes many secrets: together where one request holds them, else in batches.
pub(in crate::cli) fn write(
    client: &Client,
    secrets: &[(Map<String, Value>, &SecretString)],
) -> Result<Vec<Value>, Failure> {
    let batches = batches(secrets);
    let mut written: Vec<Value> = Vec::new();
    let progress = (batches.len() > 1).then(|| {
        let count = batches.len();
        warn(&format!(
            "more than one request holds: written in {count} parts, each of them all or none"
        ));
        Progress::of(secrets.len())
    });
    for body in batches {
        let call = Call::new(http::Method::POST, &["extensions", "secrets"]).secret(body);
        let answer = client.call(call).map_err(|error| {
            let failure = Failure::from(error);
            let so_far = match written.len() {
                0 => String::from("none was written"),
                count => format!("the first {count} were written, the others not"),
            };
            Failure {
                reason: format!("{}\n  {so_far}", failure.reason),
                ..failure
            }
        })?;
        let data = answer.body.get("data").and_then(Value::as_array);
        written.extend(data.into_iter().flatten().cloned());
        if let Some(progress) = &progress {
            progress.at(written.len());
        }
    }
    warn_of_new_scopes(&written);
    Ok(written)
}

/// As few requests as hold all.
fn batches(secrets: &[(Map<String, Value>, &SecretString)]) -> Vec<SecretBody> {
    let mut batches = Vec::new();
    let mut rest = secrets;
    while !rest.is_empty() {
        let mut count = rest.len().min(SECRETS_PER_WRITE_MAX);
        let (body, after) = loop {
            let (batch, after) = rest.split_at(count);
            let body = SecretBody::many(batch);
            if body.bytes() <= BATCH_BYTES_MAX || count == 1 {
                break (body, after);
            }
            count = count.div_ceil(2);
        };
        batches.push(body);
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(values: &[SecretString]) -> Vec<usize> {
        let secrets: Vec<_> = values.iter().map(|value| (Map::new(), value)).collect();
        batches(&secrets).iter().map(SecretBody::bytes).collect()
    }

    #[test]
    fn a_request_holds_as_many_as_the_server_takes() {
        let small = SecretString::from("x");
        assert_eq!(sizes(&vec![small.clone(); SECRETS_PER_WRITE_MAX]).len(), 1);
        assert_eq!(sizes(&vec![small; SECRETS_PER_WRITE_MAX + 1]).len(), 2);
        let large = SecretString::from("x".repeat(64 * 1024));
        let sizes = sizes(&vec![large; 100]);
        assert!(
            sizes.len() > 1 && sizes.iter().all(|bytes| *bytes <= BATCH_BYTES_MAX),
            "{sizes:?}"
        );
        let escaped = SecretString::from("\u{1}".repeat(64 * 1024));
        assert_eq!(self::sizes(&vec![escaped; 12]).len(), 3);
    }
}
