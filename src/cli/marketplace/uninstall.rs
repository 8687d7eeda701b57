//! `kiket marketplace uninstall`: an installation goes, and its own secrets with it.

use http::Method;
use serde_json::json;

use super::consents::or_not_there;
use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::cli::{Exit, Outcome, prompt};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket marketplace uninstall ins_7 --yes

At a terminal it asks first. Secrets of wider scopes stay.")]
pub(super) struct Args {
    /// The installation
    id: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let question = format!("remove installation {} and its own secrets?", args.id);
    if !args.yes && prompt::is_possible() && !prompt::agreed(&question, false)? {
        prompt::say("nothing was removed\n");
        return Ok(Exit::Fine);
    }
    let path = ["marketplace", "installations", args.id.as_str()];
    let call = Call::new(Method::DELETE, &path);
    or_not_there(&client, &args.id, "uninstall", client.call(call))?;
    let done = json!({"id": args.id, "deleted": true});
    Ok(remote.show(&done, |_| format!("uninstalled {}\n", args.id)))
}
