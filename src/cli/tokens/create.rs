//! `kiket tokens create`: a new token, its text on stdout and nowhere else.

use http::Method;
use serde_json::{Map, Value};

use crate::cli::client::Call;
use crate::cli::remote::{Form, Remote, json};
use crate::cli::table::text;
use crate::cli::{Outcome, moment, prompt, say};
use crate::clock::{Clock, SystemClock};
use crate::store::Role;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  (umask 077; kiket tokens create --name ci --role org_admin --organization acme --expires 90d > ci.token)
  (umask 077; kiket tokens create --name dispatcher --role dispatcher > dispatcher.token)

Roles: platform_operator may do everything; org_admin what is its organization's; auditor may read what is its
organization's; dispatcher may deliver. Only the token's text goes to stdout, so that it can be redirected to a file.")]
pub(super) struct Args {
    /// What people call it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What it may do: platform_operator, org_admin, auditor or dispatcher
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Role,
    /// When it ends: a moment, a date, or a span from now
    #[arg(long, value_name = "WHEN", value_parser = end)]
    expires: Option<String>,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| String::from("the roles are platform_operator, org_admin, auditor and dispatcher"))
}

fn end(text: &str) -> Result<String, String> {
    moment::parse_future(text, SystemClock.now())
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let mut members = Map::new();
    members.insert("name".into(), args.name.as_str().into());
    members.insert("role".into(), args.role.name().into());
    let optional = [("organization_id", &remote.organization), ("expires_at", &args.expires)];
    for (name, text) in optional {
        members.extend(text.clone().map(|text| (name.to_owned(), text.into())));
    }
    let call = Call::new(Method::POST, &["tokens"]).json(&Value::Object(members));
    let made = remote.client()?.call(call)?.body;
    if remote.output == Form::Json {
        return Ok(say(&json(&made)));
    }
    let (id, name, role) = (text(&made, "id"), text(&made, "name"), text(&made, "role"));
    prompt::say(&format!(
        "{id}: {name}, {role}; this is the only time that its text is shown\n"
    ));
    Ok(say(&format!("{}\n", text(&made, "token"))))
}
