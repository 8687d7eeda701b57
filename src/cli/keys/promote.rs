//! `kiket keys promote`: another key seals from now on.

use http::Method;

use crate::cli::Outcome;
use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::cli::table::text;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket keys promote kek-1a2b3c4d

Refused while a live instance lacks the key. What is under other keys is put under this one in the background, and is
delivered throughout; `kiket keys status` shows how far that has come.")]
pub(super) struct Args {
    /// The key's id, as `kiket keys add` printed it
    id: String,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: &Args) -> Outcome {
    let call = Call::new(Method::POST, &["keys", args.id.as_str(), "promote"]);
    let key = args.remote.client()?.call(call)?.body;
    Ok(args.remote.show(&key, |key| {
        format!(
            "{} seals from now on\nnext: {}\n",
            text(key, "id"),
            text(key, "next_step")
        )
    }))
}
