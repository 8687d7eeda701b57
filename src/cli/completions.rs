//! How a shell learns the commands, and whom it asks for keys, ids and scopes.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, fail, say};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket completions bash > /etc/bash_completion.d/kiket
  kiket completions zsh > \"${fpath[1]}/_kiket\"
  kiket completions fish > ~/.config/fish/completions/kiket.fish

In bash, zsh and fish, keys, ids and scopes are asked of the server that KIKET_URL names.")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

/// What is not on a command line comes from the server; where it has nothing to say, the static script goes on.
const BASH: &str = r#"
_kiket_asking() {
    local found
    found="$(kiket __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)"
    if [[ -n "$found" ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$found" -- "${COMP_WORDS[COMP_CWORD]}")
        return
    fi
    _kiket "$@"
}
complete -F _kiket_asking -o nosort -o bashdefault -o default kiket
"#;

const ZSH: &str = r#"
_kiket_asking() {
    local -a found
    found=(${(f)"$(kiket __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then
        compadd -a found
    else
        _kiket "$@"
    fi
}
compdef _kiket_asking kiket
"#;

const FISH: &str = r#"
complete -c kiket -a '(kiket __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
"#;

pub(super) fn run(args: &Args) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kiket", &mut script);
    let asking = match args.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        _ => "",
    };
    match String::from_utf8(script) {
        Ok(script) => say(&format!("{script}{asking}")),
        Err(error) => fail(Exit::Usage, &error.utf8_error()),
    }
}
