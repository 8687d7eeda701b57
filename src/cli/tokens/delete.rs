//! `kiket tokens delete`: a token is refused from now on.

use http::Method;
use serde_json::json;

use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::cli::{Exit, Outcome, prompt};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket tokens delete tok_1f6a --yes

At a terminal it asks first. The last operator token that has no end stays.")]
pub(super) struct Args {
    /// The token's id, as `kiket tokens list` shows it; not its text
    id: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    if !args.yes && prompt::is_possible() && !prompt::agreed(&format!("remove token {}?", args.id), false)? {
        prompt::say("nothing was removed\n");
        return Ok(Exit::Fine);
    }
    client.call(Call::new(Method::DELETE, &["tokens", args.id.as_str()]))?;
    Ok(remote.show(&json!({"id": args.id, "deleted": true}), |_| {
        format!("removed {}\n", args.id)
    }))
}
