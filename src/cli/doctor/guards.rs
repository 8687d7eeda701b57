//! Which of its promises about memory and disk would a process keep here?

use super::check::{Check, named};
use crate::config::Config;
use crate::crypto::keyring::Keyring;
use crate::guard;
use crate::store;

const NAME: &str = "guards";

/// Puts all of them in force in this process, as a start does, and tries what they forbid: there is no way back, so that
/// nothing may come after it but the report.
pub(super) fn look(config: &Config, keyring: &Keyring) -> Check {
    guard::apply(&guard::Plan {
        writable: store::folders(&config.database_url),
        emptied: Vec::new(),
        keys: keyring.addresses(),
        hide: true,
    });
    let report = guard::report();
    let missing: Vec<String> = report
        .iter()
        .filter(|(_, status)| !status.is_active())
        .map(|(guard, status)| format!("{} ({})", guard.name(), status.name()))
        .collect();
    let swap = guard::swap().name();
    if missing.is_empty() {
        return Check::ok(NAME, format!("all {} are active; swap: {swap}", report.len()));
    }
    let seen = format!("not active: {}; swap: {swap}", named(&missing));
    let advice = "Landlock needs Linux 6.2 and to be among the kernel's `lsm=`, locked keys about 4 KiB each of \
                  LimitMEMLOCK; see what else confines the process";
    match config.require_guards {
        true => Check::failed(NAME, seen, advice),
        false => Check::warning(NAME, seen, advice),
    }
}
