//! How a shell learns the commands.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, fail, say};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiket completions bash > /etc/bash_completion.d/kiket")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kiket", &mut script);
    match String::from_utf8(script) {
        Ok(script) => say(&script),
        Err(error) => fail(Exit::Usage, &error.utf8_error()),
    }
}
