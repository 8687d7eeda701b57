//! How the demo is asked for.

use super::{Exit, fail};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket demo
  kiket demo --once

A throw-away store, keys in memory, development certificates and an endpoint that demands a client certificate, all on
loopback. Stays up for your own requests until Ctrl-C; with --once it ends, with exit code 1 if anything was not as it
should be.")]
pub(super) struct Args {
    /// End after the story instead of staying up
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    match crate::demo::run(args.once) {
        Ok(true) => Exit::Fine,
        Ok(false) => Exit::Finding,
        Err(error) => fail(Exit::Unavailable, &error),
    }
}
