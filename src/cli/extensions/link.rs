//! `kiket extensions secrets link`: a reference to an external secret in place of a value.

use super::slot::{self, At, told, warn_of_new_scopes};
use crate::cli::Outcome;
use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::domain::key::SecretKey;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket extensions secrets link --scope project --id PROJECT_KEY --key CRM_WEBHOOK_SECRET \\
      --external secrets/kiket/projects/project_key/crm_webhook

References: vault:<mount>/<path>#<field>[@version], gsm:projects/<p>/secrets/<s>[/versions/<v>], or a bare path, which
is looked up in the organization's default provider. Only the reference is stored.")]
pub(super) struct Args {
    #[command(flatten)]
    at: At,
    /// The key
    #[arg(long, value_name = "KEY", value_parser = slot::key)]
    key: SecretKey,
    /// The secret's name in the external store
    #[arg(long, value_name = "NAME")]
    external: String,
    /// For everybody who installs the extension: operators only, scope extension only
    #[arg(long)]
    partner_default: bool,
    /// Whom to ask about it
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Only where the secret is at this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let mut members = args.at.place(remote, args.partner_default)?.members();
    members.insert("external_secret_name".into(), args.external.as_str().into());
    members.extend(args.owner.clone().map(|owner| (String::from("owner"), owner.into())));
    let call = Call::new(
        http::Method::POST,
        &["extensions", "secrets", args.key.as_str(), "link"],
    )
    .json(&members.into())
    .at_version(args.if_version);
    let answer = client.call(call)?;
    warn_of_new_scopes([&answer.body]);
    Ok(remote.show(&answer.body, |secret| told("linked", secret)))
}
