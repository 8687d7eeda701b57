//! Whether a real OpenBao says to Vault's client what the fake says, and wraps the keys that are served with.

use std::sync::Arc;

use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::openbao::{OpenBao, ROOT};
use super::support::process::{Home, Process, kiket, run};
use super::support::python;
use super::vault_fake::{ask_transit, of_transit};

/// Mounts Transit and makes a token that may use two keys, and make neither.
const SET_UP: &str = r#"
import hvac, json, sys
q = json.load(sys.stdin)
c = hvac.Client(url=q["url"], token=q["token"])
c.sys.enable_secrets_engine("transit")
paths = ["transit/%s/%s" % (what, key) for what in ("encrypt", "decrypt") for key in ("kiket", "fresh")]
c.sys.create_or_update_policy("user", "".join('path "%s" { capabilities = ["update"] }\n' % path for path in paths))
json.dump(c.auth.token.create(policies=["user"])["auth"]["client_token"], sys.stdout)
"#;

#[test]
fn a_real_server_says_what_the_fake_says_and_wraps_the_keys_that_are_served_with() {
    let bao = OpenBao::start();
    let user = python::ask(SET_UP, &json!({"url": bao.url(), "token": ROOT}));
    let user = user.as_str().unwrap();
    assert_eq!(ask_transit(&bao.url(), &Value::Null, user), of_transit());

    let (home, endpoint) = (Arc::new(Home::new()), Endpoint::start());
    let (url, token) = (bao.url(), home.write("vault.token", user).display().to_string());
    let settings = [
        ("master_key_transit_url", url.as_str()),
        ("master_key_transit_key", "kiket"),
        ("master_key_transit_credential_file", token.as_str()),
    ];
    let command = |arguments: &[&str]| {
        let mut command = kiket(arguments);
        for (name, value) in settings {
            command.arg("--set").arg(format!("{name}={value}"));
        }
        command.current_dir(home.path());
        let ended = run(command);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    };
    home.write("master.key", &command(&["keys", "generate", "--transit"]));
    command(&["keys", "add", "master.key"]);
    let served = Process::spawn_in(Arc::clone(&home), home.serve(&settings));
    served.simple(&endpoint.url(), "the value");
    assert_eq!(served.deliver("ins", b"{}").status, 200);
    assert_eq!(served.stop().code, Some(0));

    let other = [settings[0], ("master_key_transit_key", "fresh"), settings[2]];
    let refused = run(home.serve(&other));
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("master_key_transit_key: Vault has no"),
        "{}",
        refused.stderr
    );
    drop(bao);
    let refused = run(home.serve(&[&settings[..], &[("master_key_transit_wait", "700ms")]].concat()));
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
}
