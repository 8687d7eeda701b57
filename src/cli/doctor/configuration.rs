//! Can the settings be used, and the files that they name beside the keys?

use super::check::Check;
use crate::cli::config::files;
use crate::config::{Config, ConfigError};

const NAME: &str = "configuration";

pub(super) fn look(config: &Config) -> Check {
    match files(config) {
        Ok(()) => Check::ok(NAME, format!("role {}", config.role.name())),
        Err(failure) => Check::failed(
            NAME,
            failure.reason,
            "mend or name another file; `kiket config print` says where each setting came from",
        ),
    }
}

/// Of settings that give no configuration.
pub(super) fn unusable(error: &ConfigError) -> Check {
    Check::failed(
        NAME,
        error.to_string(),
        "change that setting; `kiket config print --manual` explains all of them, the rest is looked at then",
    )
}
