//! `kiket secrets health`: how the secrets are, counted.

use serde_json::Value;

use crate::cli::remote::Remote;
use crate::cli::table::{facts, text};
use crate::cli::{Exit, Outcome};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket secrets health --organization acme

Exit code 1 where a secret is overdue or broken.")]
pub(super) struct Args {}

pub(super) fn run(_: &Args, remote: &Remote) -> Outcome {
    let health = remote.read(&remote.client()?, &["secrets", "health"])?.body;
    remote.show(&health, |health| {
        facts(&[
            ("Secrets", text(health, "secret_count")),
            ("Expiring soon", text(health, "expiring_soon")),
            ("Overdue", text(health, "overdue")),
            ("Invalid", text(health, "invalid")),
        ])
    });
    let is_any = |name: &str| health.get(name).and_then(Value::as_u64).is_some_and(|count| count > 0);
    Ok(if is_any("overdue") || is_any("invalid") {
        Exit::Finding
    } else {
        Exit::Fine
    })
}
