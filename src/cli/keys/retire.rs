//! `kiket keys retire`: a key is given up, and no instance needs it any more.

use http::Method;

use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::cli::table::text;
use crate::cli::{Exit, Outcome, prompt};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket keys retire kek-1a2b3c4d --yes

Refused while anything is under the key, and while it is the active one. It does not come back: take it out of the
keyring files, and keep it with the backups that were made before. At a terminal it asks first.")]
pub(super) struct Args {
    /// The key's id, as `kiket keys status` shows it
    id: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: &Args) -> Outcome {
    let client = args.remote.client()?;
    let question = format!("retire {}? It does not come back", args.id);
    if !args.yes && prompt::is_possible() && !prompt::agreed(&question, false)? {
        prompt::say("nothing was retired\n");
        return Ok(Exit::Fine);
    }
    let key = client
        .call(Call::new(Method::DELETE, &["keys", args.id.as_str()]))?
        .body;
    Ok(args.remote.show(&key, |key| {
        format!("{} is retired\nnext: {}\n", text(key, "id"), text(key, "next_step"))
    }))
}
