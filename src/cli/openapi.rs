//! How the REST API's description is printed.

use super::{Exit, say};

pub(super) const EXAMPLE: &str = "\
Example:
  kiket openapi > kiket.json

A running server has the same document at /api/v1/openapi.json.";

pub(super) fn run() -> Exit {
    say(&format!("{}\n", crate::admin::openapi()))
}
