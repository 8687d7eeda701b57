//! The REST API from outside: what each route answers, refuses, allows to whom, and records.

mod access;
mod extensions;
mod installations;
mod recorded;
mod refused_secrets;
mod secrets;
mod versions;

use super::support::http::Answer;

/// The status, the problem's name and the field at fault (`""` where none is named).
fn refusal(answer: &Answer) -> (u16, String, String) {
    let field = answer.json()["field"].as_str().unwrap_or_default().to_owned();
    (answer.status, answer.problem(), field)
}

/// What [`refusal`] is compared with.
fn refused(status: u16, problem: &str, field: &str) -> (u16, String, String) {
    (status, problem.to_owned(), field.to_owned())
}
