//! Whether the Secret Manager that tests talk to answers as Google's: its own client works with it, and fails as it does.

use std::sync::Arc;

use kiket_sidecar::clock::SystemClock;
use serde_json::{Value, json};

use super::support::gsm::account::Account;
use super::support::gsm::{ACCESSOR, FakeGsm, Fault};
use super::support::python;

/// Google's client over REST. Every step is written down as what came of it: a value, or the error.
const GOOGLE: &str = r#"
import json, sys
from google.api_core import exceptions
from google.cloud import secretmanager_v1 as sm
from google.oauth2 import service_account
import google_crc32c

given = json.load(sys.stdin)

def client(account):
    credentials = service_account.Credentials.from_service_account_info(account)
    options = {"api_endpoint": given["endpoint"]}
    return sm.SecretManagerServiceClient(credentials=credentials, transport="rest", client_options=options)

steps = []
def step(what, call):
    try:
        came = call()
    except exceptions.GoogleAPICallError as error:
        # Over REST the class is the HTTP status's alone; Google's word for it stands in the body.
        came = [type(error).__name__, error.response.json()["error"]["status"]]
    steps.append([what, came])

owner, accessor, stranger, forger = [client(given[who]) for who in ("owner", "accessor", "stranger", "forger")]
project = "projects/acme-prod"
secret = f"{project}/secrets/crm"

def crc(data):
    return int(google_crc32c.value(data))

def add(data, checksum):
    payload = {"data": data, "data_crc32c": checksum} if checksum is not None else {"data": data}
    return owner.add_secret_version(parent=secret, payload=payload).name.rsplit("/", 1)[1]

def access(version, by=owner, name=secret):
    answer = by.access_secret_version(name=f"{name}/versions/{version}", retry=None)
    payload = answer.payload
    assert payload.data_crc32c == crc(payload.data)
    assert answer.name.startswith("projects/7"), "a project stands by its number"
    return [answer.name.rsplit("/", 1)[1], payload.data.decode()]

def listed(filter):
    pager = owner.list_secret_versions(request={"parent": secret, "filter": filter, "page_size": 2})
    return [[v.name.rsplit("/", 1)[1], v.state.name] for v in pager]

def rights(by, name=secret):
    asked = ["secretmanager.versions.access", "secretmanager.versions.list"]
    return list(by.test_iam_permissions(request={"resource": name, "permissions": asked}).permissions)

def created():
    settings = {"replication": {"automatic": {}}}
    name = owner.create_secret(parent=project, secret_id="crm", secret=settings).name
    return name.rsplit("/", 1)[1]

step("create", created)
step("create again", created)
step("none yet", lambda: access("latest"))
step("add", lambda: add(b"one", crc(b"one")))
step("add unsummed", lambda: add("zw\u00f6".encode(), None))
step("add damaged", lambda: add(b"three", crc(b"tree")))
step("add three", lambda: add(b"three", crc(b"three")))
step("latest", lambda: access("latest"))
step("pinned", lambda: access("2"))
step("by accessor", lambda: access("1", accessor))
step("by nobody's key", lambda: access("1", forger))
step("by one without rights", lambda: access("1", stranger))
step("other project", lambda: access("1", owner, "projects/other/secrets/crm"))
step("missing version", lambda: access("4"))
step("missing secret", lambda: access("latest", owner, f"{project}/secrets/nothing"))
step("rights", lambda: rights(owner))
step("accessor's rights", lambda: rights(accessor))
step("rights to nothing", lambda: rights(owner, f"{project}/secrets/nothing"))
step("rights of nobody", lambda: rights(forger))
step("accessor lists", lambda: len(list(accessor.list_secret_versions(parent=secret))))
step("disable", lambda: owner.disable_secret_version(name=f"{secret}/versions/3").state.name)
step("disabled", lambda: access("3"))
step("latest is disabled", lambda: access("latest"))
step("all", lambda: listed(""))
step("enabled", lambda: listed("state:ENABLED"))
step("disabled ones", lambda: listed("state:DISABLED"))
step("enable", lambda: owner.enable_secret_version(name=f"{secret}/versions/3").state.name)
step("enabled again", lambda: access("latest"))
step("destroy", lambda: owner.destroy_secret_version(name=f"{secret}/versions/3").state.name)
step("destroyed", lambda: access("3"))
step("never again", lambda: owner.enable_secret_version(name=f"{secret}/versions/3").state.name)
step("state", lambda: owner.get_secret_version(name=f"{secret}/versions/latest").state.name)
json.dump(steps, sys.stdout)
"#;

/// Google's client against answers that were put in the way.
const FAULTS: &str = r#"
import json, sys
from google.api_core import exceptions
from google.cloud import secretmanager_v1 as sm
from google.oauth2 import service_account
given = json.load(sys.stdin)
credentials = service_account.Credentials.from_service_account_info(given["owner"])
options = {"api_endpoint": given["endpoint"]}
client = sm.SecretManagerServiceClient(credentials=credentials, transport="rest", client_options=options)
def outcome():
    try:
        client.access_secret_version(name="projects/acme-prod/secrets/crm/versions/1", retry=None)
        return "found"
    except exceptions.GoogleAPICallError as error:
        return [type(error).__name__, error.message.endswith("The request failed.")]
json.dump([outcome() for _ in range(given["times"])], sys.stdout)
"#;

fn question(google: &FakeGsm) -> (Value, Account) {
    let (owner, accessor) = (Account::new("owner"), Account::new("accessor"));
    google.admit_owner(&owner, "acme-prod");
    google.admit(&accessor, "acme-prod", &[ACCESSOR]);
    let stranger = Account::new("stranger");
    google.admit(&stranger, "elsewhere", &[ACCESSOR]);
    // The owner's name over another key.
    let mut forged = Account::new("forger").json();
    for member in ["client_email", "private_key_id"] {
        forged[member] = owner.json()[member].clone();
    }
    let question = json!({
        "endpoint": google.url(),
        "owner": owner.json(), "accessor": accessor.json(), "stranger": stranger.json(), "forger": forged,
    });
    (question, owner)
}

#[test]
fn googles_own_client_finds_what_it_expects_and_fails_as_it_does_at_google() {
    let google = FakeGsm::start(None, Arc::new(SystemClock));
    let (question, _) = question(&google);
    let steps = python::ask(GOOGLE, &question);
    let expected = json!([
        ["create", "crm"],
        ["create again", ["Conflict", "ALREADY_EXISTS"]],
        ["none yet", ["NotFound", "NOT_FOUND"]],
        ["add", "1"],
        ["add unsummed", "2"],
        ["add damaged", ["BadRequest", "INVALID_ARGUMENT"]],
        ["add three", "3"],
        ["latest", ["3", "three"]],
        ["pinned", ["2", "zw\u{f6}"]],
        ["by accessor", ["1", "one"]],
        ["by nobody's key", ["Unauthorized", "UNAUTHENTICATED"]],
        ["by one without rights", ["Forbidden", "PERMISSION_DENIED"]],
        ["other project", ["Forbidden", "PERMISSION_DENIED"]],
        ["missing version", ["NotFound", "NOT_FOUND"]],
        ["missing secret", ["NotFound", "NOT_FOUND"]],
        [
            "rights",
            ["secretmanager.versions.access", "secretmanager.versions.list"]
        ],
        ["accessor's rights", ["secretmanager.versions.access"]],
        ["rights to nothing", []],
        ["rights of nobody", ["Unauthorized", "UNAUTHENTICATED"]],
        ["accessor lists", ["Forbidden", "PERMISSION_DENIED"]],
        ["disable", "DISABLED"],
        ["disabled", ["BadRequest", "FAILED_PRECONDITION"]],
        ["latest is disabled", ["BadRequest", "FAILED_PRECONDITION"]],
        ["all", [["3", "DISABLED"], ["2", "ENABLED"], ["1", "ENABLED"]]],
        ["enabled", [["2", "ENABLED"], ["1", "ENABLED"]]],
        ["disabled ones", [["3", "DISABLED"]]],
        ["enable", "ENABLED"],
        ["enabled again", ["3", "three"]],
        ["destroy", "DESTROYED"],
        ["destroyed", ["BadRequest", "FAILED_PRECONDITION"]],
        ["never again", ["BadRequest", "FAILED_PRECONDITION"]],
        ["state", "DESTROYED"],
    ]);
    for (came, wanted) in steps.as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
        assert_eq!(came, wanted);
    }
    assert_eq!(steps.as_array().unwrap().len(), expected.as_array().unwrap().len());
}

#[test]
fn faults_reach_googles_own_client_as_the_errors_that_they_stand_for() {
    let google = FakeGsm::start(None, Arc::new(SystemClock));
    let (mut question, _) = question(&google);
    google.add("acme-prod", "crm", b"one");
    let faults = [
        (429, "RESOURCE_EXHAUSTED", "TooManyRequests"),
        (500, "INTERNAL", "InternalServerError"),
        (503, "UNAVAILABLE", "ServiceUnavailable"),
        (403, "PERMISSION_DENIED", "Forbidden"),
    ];
    google.next(faults.map(|(code, status, _)| Fault::google(code, status)));
    question["times"] = json!(faults.len() + 1);
    let came = python::ask(FAULTS, &question);
    let classes = faults.map(|(_, _, class)| json!([class, true]));
    assert_eq!(came, Value::from([&classes[..], &[json!("found")]].concat()));
}
