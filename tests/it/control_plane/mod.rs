//! The REST API from outside: what each route answers, refuses, allows to whom, and records.

mod access;
mod explained;
mod extensions;
mod installations;
mod limits;
mod named_requests;
mod recorded;
mod references;
mod refused_secrets;
mod removal;
mod sdk;
mod secrets;
mod tokens;
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
