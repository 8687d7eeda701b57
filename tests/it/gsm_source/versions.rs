//! Which version of a secret is read, and what a version is that cannot be.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::{Arrange, FIRST, LATEST, PROJECT, failing, furnished, hold, one, turned};
use crate::support::external::value;
use crate::support::gsm::account::Account;
use crate::support::gsm::{ACCESSOR, Fault, State, VIEWER};
use crate::support::pki::Authority;

#[test]
fn the_latest_version_is_the_latest_that_is_enabled() {
    use State::{Destroyed, Disabled};
    const ALL: &[&[&str]] = &[ACCESSOR, VIEWER];
    let (second_off, none_on) = (&[(2, Disabled)], &[(1, Disabled), (2, Disabled)]);
    hold(vec![
        one("the newest is disabled", turned(second_off, ALL), LATEST, "found", 3),
        one(
            "the newest is destroyed",
            turned(&[(2, Destroyed)], ALL),
            LATEST,
            "found",
            3,
        ),
        one(
            "an older one is disabled",
            turned(&[(1, Disabled)], ALL),
            LATEST,
            "found",
            1,
        ),
        one("none is enabled", turned(none_on, ALL), LATEST, "denied", 3),
        one(
            "all are gone",
            turned(&[(1, Destroyed), (2, Destroyed)], ALL),
            LATEST,
            "dangling",
            3,
        ),
        one(
            "one is disabled, the newest gone",
            turned(&[(1, Disabled), (2, Destroyed)], ALL),
            LATEST,
            "denied",
            3,
        ),
        one(
            "versions may not be listed",
            turned(second_off, &[ACCESSOR]),
            LATEST,
            "denied",
            2,
        ),
    ]);
    let (google, asking) = furnished(&Authority::new("dev CA"), &Account::new("reader"));
    google.turn(PROJECT, "kiket-crm", 2, Disabled);
    let asker = asking.open();
    assert_eq!(value(&asker.fetch(LATEST)), "first");
    google.turn(PROJECT, "kiket-crm", 2, State::Enabled);
    assert_eq!(value(&asker.fetch(LATEST)), "second");
}

#[test]
fn a_list_is_read_page_by_page_to_a_bound() {
    let pages = |count: usize| {
        move || {
            let off = Fault::Answer(StatusCode::BAD_REQUEST, &[], off());
            failing([vec![off], vec![empty_page(); count]].concat())
        }
    };
    // The fake takes a page's token for a number, and one that is none for the beginning.
    hold(vec![
        one("empty pages before", pages(7)(), LATEST, "found", 10),
        one("too many", pages(8)(), LATEST, "too-large", 9),
    ]);
    let (google, asking) = furnished(&Authority::new("dev CA"), &Account::new("reader"));
    google.turn(PROJECT, "kiket-crm", 2, State::Disabled);
    google.next([Fault::Answer(StatusCode::BAD_REQUEST, &[], off()), empty_page()]);
    assert_eq!(value(&asking.open().fetch(LATEST)), "first");
    let list = "GET /v1/projects/acme-prod/secrets/kiket-crm/versions?filter=state:ENABLED&pageSize=20";
    assert_eq!(
        google.paths()[1..3],
        [list.to_owned(), format!("{list}&pageToken=a%26b%3D%2F")]
    );
}

fn empty_page() -> Fault {
    Fault::Answer(StatusCode::OK, &[], Bytes::from_static(br#"{"nextPageToken":"a&b=/"}"#))
}

/// What Google says of a version that is not enabled.
fn off() -> Bytes {
    let message = "Secret Version [projects/1/secrets/kiket-crm/versions/2] is in DISABLED state.";
    let error = json!({"error": {"code": 400, "message": message, "status": "FAILED_PRECONDITION"}});
    Bytes::from(error.to_string())
}

#[test]
fn a_destroyed_version_is_dangling_and_a_disabled_one_is_denied() {
    use State::{Destroyed, Disabled, Enabled};
    const ALL: &[&[&str]] = &[ACCESSOR, VIEWER];
    // As Google says it, then in words that are not known, so that the version is asked for its state.
    let silent = |states: &'static [(usize, State)], rights: &'static [&'static [&'static str]]| -> Arrange {
        let turn = turned(states, rights);
        Box::new(move |google, asking, account| {
            turn(google, asking, account);
            google.next([Fault::google(400, "FAILED_PRECONDITION")]);
        })
    };
    hold(vec![
        one("destroyed", turned(&[(1, Destroyed)], ALL), FIRST, "dangling", 1),
        one("disabled", turned(&[(1, Disabled)], ALL), FIRST, "denied", 1),
        one(
            "disabled, to an accessor",
            turned(&[(1, Disabled)], &[ACCESSOR]),
            FIRST,
            "denied",
            1,
        ),
        one(
            "destroyed, to an accessor",
            turned(&[(1, Destroyed)], &[ACCESSOR]),
            FIRST,
            "dangling",
            1,
        ),
        one(
            "destroyed, not said",
            silent(&[(1, Destroyed)], ALL),
            FIRST,
            "dangling",
            2,
        ),
        one("disabled, not said", silent(&[(1, Disabled)], ALL), FIRST, "denied", 2),
        one(
            "neither after all",
            silent(&[(1, Enabled)], ALL),
            FIRST,
            "not-caught-up",
            2,
        ),
        one(
            "neither said nor shown",
            silent(&[(1, Destroyed)], &[ACCESSOR]),
            FIRST,
            "denied",
            2,
        ),
    ]);
}
