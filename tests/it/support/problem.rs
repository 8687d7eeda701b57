//! What a problem's answer has to look like, whoever caused it.

use serde_json::json;

use super::http::Answer;

/// What tests put where it must not come out again.
pub const CANARY: &str = "kiket-canary-7f3a";

/// Checks a problem's document and header fields, and that it says nothing of what was sent.
pub fn assert_problem(answer: &Answer, status: u16, problem: &str, retryable: bool, what: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{what}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{what}"
    );
    assert!(
        answer.header("proxy-status").unwrap().starts_with("kiket; error="),
        "{what}"
    );
    assert_eq!(answer.header("retry-after").is_some(), status == 503, "{what}");
    let document = answer.json();
    assert_eq!(document["status"], json!(status), "{what}");
    assert_eq!(document["retryable"], json!(retryable), "{what}");
    assert_eq!(
        document["delivery_id"].as_str(),
        answer.header("x-kiket-delivery-id"),
        "{what}"
    );
    let everything = format!("{answer:?}{}", String::from_utf8_lossy(&answer.body));
    assert!(
        !everything.contains(CANARY) && !everything.contains("secret-value"),
        "{what}: {everything}"
    );
}
