//! How a person at a terminal is led through a checklist: the organization's values first, then the project's.

use secrecy::{ExposeSecret, SecretString};

use super::checklist::{Installed, Line};
use crate::cli::{Failure, prompt};

/// A value to write.
pub(super) struct Filled<'a> {
    /// The scope, and what it is bound to.
    pub(super) target: (&'static str, &'a str),
    pub(super) line: &'a Line,
    pub(super) value: SecretString,
}

/// Asks for what has no value, and offers to override what has one.
pub(super) fn ask(installed: &Installed) -> Result<Vec<Filled<'_>>, Failure> {
    let mut values = Vec::new();
    let (shared, own): (Vec<&Line>, Vec<&Line>) = installed.checklist.iter().partition(|line| line.is_shared());
    let organization = format!("For the whole organization {}:", installed.organization_id);
    let project = format!("For project {}:", installed.project_id);
    for (title, lines) in [(organization, shared), (project, own)] {
        if !lines.is_empty() {
            prompt::say(&format!("\n{title} (Enter leaves a value out)\n"));
        }
        for line in lines {
            values.extend(ask_for(installed, line)?);
        }
    }
    prompt::say("\n");
    Ok(values)
}

fn ask_for<'a>(installed: &'a Installed, line: &'a Line) -> Result<Option<Filled<'a>>, Failure> {
    let name = line.name();
    let target = match line.using() {
        None => installed.target(line),
        Some(using) => {
            prompt::say(&format!("{name}: {using}\n"));
            let question = format!("  override for project {}?", installed.project_id);
            if !prompt::agreed(&question, false)? {
                return Ok(None);
            }
            installed.own()
        }
    };
    let needed = if line.required { "required" } else { "optional" };
    let value = prompt::value(&format!("{name}, {needed}"))?;
    let is_given = !value.expose_secret().is_empty();
    Ok(is_given.then_some(Filled { target, line, value }))
}
