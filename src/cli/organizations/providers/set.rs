//! `kiket organizations providers set`: a provider is configured; of one that is there, what is not named stays.

use http::Method;
use serde_json::{Map, Value, json};

use super::{Which, told};
use crate::cli::client::{Call, ClientError};
use crate::cli::remote::Remote;
use crate::cli::{Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
#[command(
    allow_missing_positional = true,
    after_help = "\
Credentials are not named here: they are secrets of the organization, at organization scope.

Examples:
  Vault, by AppRole:
    kiket extensions secrets set --organization acme --key VAULT_SECRET_ID
    kiket organizations providers set acme main --kind vault --address https://vault.acme.example:8200 \\
      --mount secret=2 --path-prefix kiket/acme --auth approle --role ROLE_ID --credential-key VAULT_SECRET_ID --default
  Vault, by a Kubernetes service account's token (or --auth jwt), under an authority of one's own:
    kiket organizations providers set acme k8s --kind vault --address https://vault.acme.example:8200 \\
      --auth kubernetes --role kiket --credential-key VAULT_JWT --ca-key VAULT_CA
  Google Secret Manager, by a service account:
    kiket organizations providers set acme google --kind gsm --path-prefix projects/acme-prod/secrets/kiket- \\
      --auth service_account --credential-key GOOGLE_ACCOUNT
  One field of a provider that is there; the others stay (another kind or method begins anew):
    kiket organizations providers set acme main --ttl 300
    kiket organizations providers set acme main --namespace ''

Then see whether it works: kiket organizations providers check acme main"
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// vault or gsm; another one begins anew
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Where it is: https://host[:port][/prefix]
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// Vault's namespace
    #[arg(long)]
    namespace: Option<String>,
    /// A KV engine that references may name; repeatable; replaces those before
    #[arg(long = "mount", value_name = "MOUNT[=1|2]", value_parser = mount)]
    mounts: Vec<(String, u64)>,
    /// What references must stay within; for gsm projects/ID or projects/ID/secrets/PREFIX
    #[arg(long, value_name = "PATH")]
    path_prefix: Option<String>,
    /// token, approle, jwt or kubernetes; for gsm service_account or metadata
    #[arg(long, value_name = "METHOD")]
    auth: Option<String>,
    /// Where Vault's login method is mounted below auth/, where it is not under its own name
    #[arg(long, value_name = "PATH")]
    auth_mount: Option<String>,
    /// AppRole's role_id, or the role of a JWT or Kubernetes login
    #[arg(long)]
    role: Option<String>,
    /// The key of the secret that holds the token, secret_id, JWT or service account
    #[arg(long, value_name = "KEY")]
    credential_key: Option<String>,
    /// The key of the secret that holds the authorities (PEM) to check its certificate against
    #[arg(long, value_name = "KEY")]
    ca_key: Option<String>,
    /// Look bare paths up here; ends the default before
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    default: Option<bool>,
    /// How long a fetched value is used before it is looked at again
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Only where the provider is at this version; 0 where it must be new
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

/// What a provider says besides its settings; the server does not take it back.
const NOT_SETTINGS: &[&str] = &["organization_id", "name", "version", "created_at", "updated_at"];

fn mount(text: &str) -> Result<(String, u64), String> {
    let (mount, version) = text.split_once('=').unwrap_or((text, "2"));
    let version = version.parse().map_err(|_| "MOUNT, MOUNT=1 or MOUNT=2")?;
    Ok((mount.to_owned(), version))
}

impl Args {
    /// The settings that are named. An empty one is taken back.
    fn named(&self) -> Map<String, Value> {
        let texts = [
            ("kind", &self.kind),
            ("address", &self.address),
            ("namespace", &self.namespace),
            ("path_prefix", &self.path_prefix),
            ("ca_key", &self.ca_key),
        ];
        let mut settings = said(&texts);
        if !self.mounts.is_empty() {
            let mounts = self.mounts.iter().cloned();
            settings.insert(
                "mounts".into(),
                mounts.map(|(mount, version)| (mount, json!(version))).collect(),
            );
        }
        settings.extend(self.default.map(|default| ("default".into(), default.into())));
        settings.extend(self.ttl.map(|ttl| ("ttl".into(), ttl.into())));
        settings
    }

    /// Of these, how it is asked.
    fn named_auth(&self) -> Map<String, Value> {
        said(&[
            ("method", &self.auth),
            ("mount", &self.auth_mount),
            ("role", &self.role),
            ("credential_key", &self.credential_key),
        ])
    }

    /// The whole provider: what is named, over what stands.
    fn over(&self, standing: Option<&Value>) -> Value {
        let (named, named_auth) = (self.named(), self.named_auth());
        let is_other = |named: Option<&Value>, standing: Option<&Value>| named.is_some() && named != standing;
        let kept = standing.filter(|standing| !is_other(named.get("kind"), standing.get("kind")));
        let mut provider = kept.and_then(Value::as_object).cloned().unwrap_or_default();
        provider.retain(|name, _| !NOT_SETTINGS.contains(&name.as_str()));
        let auth = provider.remove("auth").unwrap_or_default();
        let kept_auth = !is_other(named_auth.get("method"), auth.get("method"));
        let mut auth = auth.as_object().filter(|_| kept_auth).cloned().unwrap_or_default();
        auth.extend(named_auth);
        provider.extend(named);
        provider.insert("auth".into(), auth.into());
        provider.into()
    }
}

fn said(settings: &[(&str, &Option<String>)]) -> Map<String, Value> {
    let named = settings.iter().filter_map(|(name, setting)| {
        let setting = setting.as_ref()?;
        let value = if setting.is_empty() {
            Value::Null
        } else {
            json!(setting)
        };
        Some(((*name).to_owned(), value))
    });
    named.collect()
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    if args.named().is_empty() && args.named_auth().is_empty() {
        return Err(Failure::usage("name a setting to change, for example --ttl 300"));
    }
    let organization = args.which.organization(remote)?;
    let client = remote.client()?;
    let path = ["organizations", organization, "providers", args.which.name.as_str()];
    let standing = match client.call(Call::get(&path)) {
        Ok(answer) => Some(answer.body),
        Err(ClientError::Refused(problem)) if problem.status == 404 => None,
        Err(error) => return Err(error.into()),
    };
    // What is written is what was read, changed: nobody else's change in between is undone.
    let read = standing.as_ref().and_then(|standing| standing.get("version")?.as_u64());
    let call = Call::new(Method::PUT, &path)
        .json(&args.over(standing.as_ref()))
        .at_version(args.if_version.or(Some(read.unwrap_or(0))));
    remote.show(&client.call(call)?.body, told);
    Ok(Exit::Fine)
}
