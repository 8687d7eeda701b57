//! How the REST API's description is printed.

use super::{Exit, say};

pub(super) fn run() -> Exit {
    say(&format!("{}\n", crate::admin::openapi()))
}
