//! `kiket marketplace confirm` and `accept-keys`: what an organization's admin agrees to.

use http::Method;

use super::status;
use crate::cli::client::{Answer, Call, Client, ClientError};
use crate::cli::remote::Remote;
use crate::cli::{Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket marketplace confirm ins_7
  kiket marketplace accept-keys ins_7

Until then no secret goes to a changed destination, and none of a key that an update of the manifest added.")]
pub(super) struct Args {
    /// The installation
    id: String,
}

pub(super) fn run(args: &Args, remote: &Remote, consent: &'static str) -> Outcome {
    let client = remote.client()?;
    let path = ["marketplace", "installations", args.id.as_str(), consent];
    let answer = or_not_there(&client, &args.id, consent, client.call(Call::new(Method::POST, &path)))?;
    Ok(remote.show(&answer.body, |_| format!("{consent}: done for {}\n", args.id)))
}

/// Tells a server that does not have a route from one that does not have the installation.
pub(super) fn or_not_there(
    client: &Client,
    id: &str,
    what: &str,
    answered: Result<Answer, ClientError>,
) -> Result<Answer, Failure> {
    let is_absent = matches!(&answered, Err(ClientError::Refused(problem)) if matches!(problem.status, 404 | 405));
    if is_absent && status::read(client, id).is_ok() {
        return Err(Failure {
            exit: Exit::Refused,
            reason: format!(
                "the installation is there, but this server has no `{what}`: it is older than this command"
            ),
        });
    }
    Ok(answered?)
}
