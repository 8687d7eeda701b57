//! Whether the fake of Vault is one: its own Python client takes it for a Vault.

use serde_json::{Value, json};

use super::support::pki::Authority;
use super::support::python;
use super::support::vault::{FakeVault, Grant};

/// Does with a Vault what its users do, and prints what came of it. `outcome` is a value or the name of an exception.
const CLIENT: &str = r#"
import hvac, json, sys
q = json.load(sys.stdin)
out = {}

def client(token=None, namespace=None):
    return hvac.Client(url=q["url"], token=token, namespace=namespace, verify=q["ca"] or True)

def outcome(call):
    try:
        return call()
    except hvac.exceptions.VaultError as e:
        return type(e).__name__

def read(c, path, version=None):
    r = c.secrets.kv.v2.read_secret_version(path, version=version, raise_on_deleted_version=True)
    return [r["data"]["data"], r["data"]["metadata"]["version"]]

c = client("root")
v2 = c.secrets.kv.v2
out["written"] = [v2.create_or_update_secret("a/b", {"f": str(n)})["data"]["version"] for n in (1, 2, 3)]
out["current"] = outcome(lambda: read(c, "a/b"))
out["pinned"] = outcome(lambda: read(c, "a/b", 1))
out["no version"] = outcome(lambda: read(c, "a/b", 9))
out["no path"] = outcome(lambda: read(c, "a/c"))
out["no mount"] = outcome(lambda: c.secrets.kv.v2.read_secret_version("a", mount_point="none", raise_on_deleted_version=True))
v2.delete_secret_versions("a/b", [1])
out["deleted"] = outcome(lambda: read(c, "a/b", 1))
shown = v2.read_secret_version("a/b", version=1, raise_on_deleted_version=False)["data"]
out["deleted shows"] = [shown["data"], shown["metadata"]["version"], shown["metadata"]["deletion_time"] != ""]
v2.undelete_secret_versions("a/b", [1])
out["undeleted"] = outcome(lambda: read(c, "a/b", 1))
v2.destroy_secret_versions("a/b", [2])
out["destroyed"] = outcome(lambda: read(c, "a/b", 2))
v2.delete_latest_version_of_secret("a/b")
out["latest deleted"] = outcome(lambda: read(c, "a/b"))
h = v2.read_secret_metadata("a/b")["data"]
out["history"] = [h["current_version"], sorted(h["versions"]), h["versions"]["2"]["destroyed"]]
v2.delete_metadata_and_all_versions("a/b")
out["forgotten"] = outcome(lambda: read(c, "a/b", 3))

v1 = c.secrets.kv.v1
v1.create_or_update_secret("x/y", {"f": "v"}, mount_point="kv")
out["v1"] = v1.read_secret("x/y", mount_point="kv")["data"]
v1.delete_secret("x/y", mount_point="kv")
out["v1 deleted"] = outcome(lambda: v1.read_secret("x/y", mount_point="kv"))

def logged_in(login):
    d = client()
    auth = login(d)["auth"]
    looked = d.auth.token.lookup_self()["data"]
    renewed = d.auth.token.renew_self()["auth"]
    return [auth["lease_duration"], auth["renewable"], d.token == auth["client_token"], looked["ttl"],
            looked["renewable"], renewed["lease_duration"], d.is_authenticated()]

out["approle"] = outcome(lambda: logged_in(lambda d: d.auth.approle.login("role", "secret-id")))
out["approle refused"] = outcome(lambda: client().auth.approle.login("role", "other"))
out["jwt"] = outcome(lambda: logged_in(lambda d: d.auth.jwt.jwt_login("role", "a.b.c", path="jwt")))
out["jwt refused"] = outcome(lambda: client().auth.jwt.jwt_login("role", "x", path="jwt"))
k8s = lambda d: d.auth.kubernetes.login("role", "k.8.s")
out["kubernetes"] = outcome(lambda: logged_in(k8s))
out["kubernetes refused"] = outcome(lambda: client().auth.kubernetes.login("role", "x"))
out["wrong token"] = outcome(lambda: read(client("other"), "a/b"))
out["no token"] = outcome(lambda: client().auth.token.lookup_self())
out["renew what cannot be"] = outcome(lambda: c.auth.token.renew_self())
out["beyond its policy"] = outcome(lambda: read(client("narrow"), "other/x"))
out["within its policy"] = outcome(lambda: read(client("narrow"), "mine/x"))
out["namespace"] = outcome(lambda: read(client("inner", "team/a"), "a/b"))
out["other namespace"] = outcome(lambda: read(client("inner", "team/b"), "a/b"))
out["root's token elsewhere"] = outcome(lambda: read(client("root", "team/a"), "a/b"))
out["sealed"] = c.sys.is_sealed()
json.dump(out, sys.stdout)
"#;

/// The same client, of a Vault that is sealed.
const SEALED: &str = r#"
import hvac, json, sys
q = json.load(sys.stdin)
c = hvac.Client(url=q["url"], token="root", verify=q["ca"] or True)
out = {"sealed": c.sys.is_sealed()}
try:
    c.secrets.kv.v2.read_secret_version("a/b", raise_on_deleted_version=True)
except hvac.exceptions.VaultError as e:
    out["read"] = [type(e).__name__, e.errors]
json.dump(out, sys.stdout)
"#;

/// What is done with a Transit engine, by somebody who may do everything and by two who may not.
const TRANSIT: &str = r#"
import base64, hvac, json, sys
q = json.load(sys.stdin)
out = {}

def transit(token):
    return hvac.Client(url=q["url"], token=token, verify=q["ca"] or True).secrets.transit

def outcome(call):
    try:
        return call()
    except hvac.exceptions.VaultError as e:
        return [type(e).__name__, e.errors]

def texts(*plain):
    return [{"plaintext": base64.b64encode(text.encode()).decode()} for text in plain]

def sealed(answer):
    return [{"ciphertext": result["ciphertext"]} for result in answer["data"]["batch_results"]]

def opened(t, key, batch):
    results = t.decrypt_data(key, batch_input=batch)["data"]["batch_results"]
    return [base64.b64decode(result["plaintext"]).decode() for result in results]

t = transit("root")
t.create_key("kiket"); t.create_key("other")
batch = sealed(t.encrypt_data("kiket", batch_input=texts("a", "bc")))
out["marks"] = [item["ciphertext"].split(":")[:2] for item in batch]
out["opened"] = opened(t, "kiket", batch)
out["opened in another order"] = opened(t, "kiket", batch[::-1])
one = t.encrypt_data("kiket", plaintext=texts("one")[0]["plaintext"])["data"]
out["one"] = [one["key_version"], base64.b64decode(t.decrypt_data("kiket", ciphertext=one["ciphertext"])["data"]["plaintext"]).decode()]
out["other key"] = outcome(lambda: opened(t, "other", batch))
out["other key, one"] = outcome(lambda: t.decrypt_data("other", ciphertext=one["ciphertext"]))
out["no key"] = outcome(lambda: opened(t, "none", batch))
out["no mark"] = outcome(lambda: t.decrypt_data("kiket", ciphertext="AAAA"))
out["one of two damaged"] = outcome(lambda: opened(t, "kiket", [batch[0], {"ciphertext": "vault:v1:AAAA"}]))
out["too new"] = outcome(lambda: t.decrypt_data("kiket", ciphertext=one["ciphertext"].replace("v1", "v9")))
out["nothing"] = outcome(lambda: t.decrypt_data("kiket", ciphertext="", batch_input=[]))
out["no base64"] = outcome(lambda: t.encrypt_data("kiket", plaintext="***"))
t.rotate_key("kiket")
out["versions"] = t.read_key("kiket")["data"]["latest_version"]
out["newest"] = sealed(t.encrypt_data("kiket", batch_input=texts("a")))[0]["ciphertext"].split(":")[1]
out["opened by an older version"] = opened(t, "kiket", batch)
out["read what is not there"] = outcome(lambda: t.read_key("none"))
user = transit(q["user"])
out["user"] = opened(user, "kiket", sealed(user.encrypt_data("kiket", batch_input=texts("u"))))
out["user makes a key"] = outcome(lambda: user.encrypt_data("fresh", batch_input=texts("u")))
out["root makes a key"] = sealed(t.encrypt_data("fresh", batch_input=texts("u")))[0]["ciphertext"].split(":")[1]
out["user beyond its policy"] = outcome(lambda: user.encrypt_data("other", batch_input=texts("u")))
json.dump(out, sys.stdout)
"#;

fn furnished(vault: &FakeVault) {
    let lease = || Grant {
        ttl: 3_600,
        ..Grant::default()
    };
    vault.root(|root| {
        root.token("root", 0, Grant::default());
        let paths = vec!["secret/data/mine/".into()];
        root.token(
            "narrow",
            0,
            Grant {
                paths,
                ..Grant::default()
            },
        );
        root.put("secret", "mine/x", json!({"f": "v"}));
        root.entry("approle", "role", "secret-id", lease());
        root.entry("jwt", "role", "a.b.c", lease());
        root.entry("kubernetes", "role", "k.8.s", lease());
    });
    vault.within("team/a", |inner| {
        inner.token("inner", 0, Grant::default());
        inner.put("secret", "a/b", json!({"f": "inner"}));
    });
    vault.within("team/b", |_| {});
}

#[test]
fn vaults_own_client_takes_the_fake_for_a_vault() {
    let authority = Authority::new("dev CA");
    let file = authority.file();
    let logged_in = json!([3_600, true, true, 3_600, true, 3_600, true]);
    for (vault, ca) in [
        (FakeVault::plain(), Value::Null),
        (FakeVault::start(&authority), json!(file.path())),
    ] {
        furnished(&vault);
        let answers = python::ask(CLIENT, &json!({"url": vault.url(), "ca": ca}));
        let expected = json!({
            "written": [1, 2, 3],
            "current": [{"f": "3"}, 3],
            "pinned": [{"f": "1"}, 1],
            "no version": "InvalidPath",
            "no path": "InvalidPath",
            "no mount": "InvalidPath",
            "deleted": "InvalidPath",
            "deleted shows": [null, 1, true],
            "undeleted": [{"f": "1"}, 1],
            "destroyed": "InvalidPath",
            "latest deleted": "InvalidPath",
            "history": [3, ["1", "2", "3"], true],
            "forgotten": "InvalidPath",
            "v1": {"f": "v"},
            "v1 deleted": "InvalidPath",
            "approle": logged_in,
            "approle refused": "InvalidRequest",
            "jwt": logged_in,
            "jwt refused": "InvalidRequest",
            "kubernetes": logged_in,
            "kubernetes refused": "Forbidden",
            "wrong token": "Forbidden",
            "no token": "Forbidden",
            "renew what cannot be": "InvalidRequest",
            "beyond its policy": "Forbidden",
            "within its policy": [{"f": "v"}, 1],
            "namespace": [{"f": "inner"}, 1],
            "other namespace": "Forbidden",
            "root's token elsewhere": "Forbidden",
            "sealed": false,
        });
        assert_eq!(answers, expected);
        assert!(vault.asked().iter().all(|asked| asked.is_marked));
        vault.seal(true);
        let answers = python::ask(SEALED, &json!({"url": vault.url(), "ca": ca}));
        assert_eq!(
            answers,
            json!({"sealed": true, "read": ["VaultDown", ["Vault is sealed"]]})
        );
    }
}

/// What Vault says to [`TRANSIT`]. An OpenBao says it, too: see `openbao`.
pub fn of_transit() -> Value {
    let denied = json!(["Forbidden", ["1 error occurred:\n\t* permission denied\n\n"]]);
    let invalid = |why: &str| json!(["InvalidRequest", [why]]);
    json!({
        "marks": [["vault", "v1"], ["vault", "v1"]],
        "opened": ["a", "bc"],
        "opened in another order": ["bc", "a"],
        "one": [1, "one"],
        "other key": ["InvalidRequest", null],
        "other key, one": invalid("cipher: message authentication failed"),
        "no key": invalid("encryption key not found"),
        "no mark": invalid("invalid ciphertext: no prefix"),
        "one of two damaged": ["InvalidRequest", null],
        "too new": invalid("invalid ciphertext: version is too new"),
        "nothing": invalid("missing batch input to process"),
        "no base64": invalid("illegal base64 data at input byte 0"),
        "versions": 2,
        "newest": "v2",
        "opened by an older version": ["a", "bc"],
        "read what is not there": ["InvalidPath", []],
        "user": ["u"],
        "user makes a key": denied,
        "root makes a key": "v1",
        "user beyond its policy": denied,
    })
}

/// Does with a Transit engine what its users do.
pub fn ask_transit(url: &str, ca: &Value, user: &str) -> Value {
    python::ask(TRANSIT, &json!({"url": url, "ca": ca, "user": user}))
}

#[test]
fn vaults_own_client_takes_the_fakes_transit_for_vaults() {
    let authority = Authority::new("dev CA");
    let file = authority.file();
    for (vault, ca) in [
        (FakeVault::plain(), Value::Null),
        (FakeVault::start(&authority), json!(file.path())),
    ] {
        vault.root(|root| {
            root.token("root", 0, Grant::default());
            let of = |what: &str, key: &str| format!("transit/{what}/{key}");
            let paths = ["kiket", "fresh"].map(|key| [of("encrypt", key), of("decrypt", key)]);
            let paths = paths.concat();
            root.token(
                "user",
                0,
                Grant {
                    paths,
                    ..Grant::default()
                },
            );
        });
        assert_eq!(ask_transit(&vault.url(), &ca, "user"), of_transit());
    }
}
