//! How every command becomes a page of the manual.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, Exit, fail, say};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket man --dir /usr/local/share/man/man1

Every command has a page of its own: `man kiket`, `man kiket-marketplace-install`.")]
pub(super) struct Args {
    /// A folder that is there; pages of these names in it are replaced
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Exit {
    match write(&args.dir) {
        Ok(count) => say(&format!("{count} pages written\n")),
        Err(error) => fail(
            Exit::Usage,
            &format!("--dir: the pages cannot be written: {}", error.kind()),
        ),
    }
}

fn write(folder: &Path) -> io::Result<usize> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    collect(&root, "kiket", &mut pages);
    for (name, command) in &pages {
        fs::write(folder.join(format!("{name}.1")), page(name, command)?)?;
    }
    Ok(pages.len())
}

/// A command and all below it that help texts list, each with the name of its page.
fn collect<'a>(command: &'a Command, name: &str, pages: &mut Vec<(String, &'a Command)>) {
    pages.push((name.to_owned(), command));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below, &format!("{name}-{}", below.get_name()), pages);
    }
}

fn page(name: &str, command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(name.to_owned())
        .source(concat!("kiket ", env!("CARGO_PKG_VERSION")))
        .manual("Kiket sidecar");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = command.get_after_help() {
        page.extend_from_slice(as_it_stands("EXAMPLES", &notes.to_string()).as_bytes());
    }
    Ok(page)
}

/// A section whose lines stay lines: commands are copied out of it.
fn as_it_stands(title: &str, text: &str) -> String {
    let mut section = format!(".SH {title}\n.nf\n");
    for line in text.lines() {
        let escaped = line
            .replace('\\', "\\e")
            .replace('-', "\\-")
            .replace('\'', "\\(aq")
            .replace('`', "\\(ga");
        if escaped.starts_with('.') {
            section.push_str("\\&");
        }
        section.push_str(&escaped);
        section.push('\n');
    }
    section.push_str(".fi\n");
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_roff_would_take_for_its_own_is_escaped() {
        let section = as_it_stands("EXAMPLES", ".line\n  kiket a --b 'c' \\\n`x`");
        let expected = ".SH EXAMPLES\n.nf\n\\&.line\n  kiket a \\-\\-b \\(aqc\\(aq \\e\n\\(gax\\(ga\n.fi\n";
        assert_eq!(section, expected);
    }
}
