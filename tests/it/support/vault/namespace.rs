//! What a namespace of the Vault knows: who may ask, how one logs in, and which engines are mounted.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::Said;
use super::kv::{V1, V2};
use super::transit::Transit;

/// What a token is worth.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Seconds; 0 never ends.
    pub ttl: u64,
    pub renewable: bool,
    /// Seconds from its making that renewals stop at.
    pub max_ttl: u64,
    /// What the paths that it may read start with.
    pub paths: Vec<String>,
    /// Whether it may look itself up and renew itself.
    pub default_policy: bool,
}

impl Default for Grant {
    fn default() -> Self {
        Self {
            ttl: 0,
            renewable: true,
            max_ttl: u64::MAX,
            paths: vec![String::new()],
            default_policy: true,
        }
    }
}

struct Token {
    grant: Grant,
    made_at: u64,
    ends_at: Option<u64>,
}

/// A login method: what its role and credential are called, and who is let in.
struct Login {
    role: &'static str,
    credential: &'static str,
    refusal: (u16, &'static str),
    entries: Vec<(String, String, Grant)>,
}

enum Engine {
    V1(V1),
    V2(V2),
    Transit(Transit),
}

pub struct Namespace {
    engines: BTreeMap<String, Engine>,
    logins: BTreeMap<String, Login>,
    tokens: HashMap<String, Token>,
    made: u64,
}

impl Namespace {
    pub(super) fn new() -> Self {
        let engines = [
            ("secret", Engine::V2(V2::default())),
            ("kv", Engine::V1(V1::default())),
            ("transit", Engine::Transit(Transit::default())),
        ];
        let login = |role, credential, status, why| Login {
            role,
            credential,
            refusal: (status, why),
            entries: Vec::new(),
        };
        let logins = [
            (
                "approle",
                login("role_id", "secret_id", 400, "invalid role or secret ID"),
            ),
            ("jwt", login("role", "jwt", 400, "error validating token")),
            ("kubernetes", login("role", "jwt", 403, "permission denied")),
        ];
        let named = |(name, login): (&str, Login)| (name.to_owned(), login);
        Self {
            engines: engines.map(|(name, engine)| (name.to_owned(), engine)).into(),
            logins: logins.map(named).into(),
            tokens: HashMap::new(),
            made: 0,
        }
    }

    /// Writes a secret: the next version of it in `secret`, the one there is in `kv`.
    pub fn put(&mut self, mount: &str, path: &str, data: Value) {
        match self.engines.get_mut(mount).unwrap() {
            Engine::V1(engine) => engine.put(path, data),
            Engine::V2(engine) => drop(engine.put(path, data)),
            Engine::Transit(_) => panic!("transit keeps no secrets"),
        }
    }

    /// The engine `transit`.
    fn transit(&mut self) -> &mut Transit {
        match self.engines.get_mut("transit").unwrap() {
            Engine::Transit(engine) => engine,
            Engine::V1(_) | Engine::V2(_) => panic!("an engine of another kind"),
        }
    }

    /// Makes a key in `transit`, or its next version.
    pub fn make_key(&mut self, name: &str) {
        self.transit().make(name);
    }

    /// What was encrypted in `transit` so far.
    pub fn encrypted(&mut self) -> Vec<Vec<u8>> {
        self.transit().encrypted()
    }

    /// Marks a version in `secret` as deleted, or destroys it.
    pub fn remove(&mut self, path: &str, version: u64, destroy: bool) {
        match self.engines.get_mut("secret").unwrap() {
            Engine::V2(engine) => engine.remove(path, &[version], destroy),
            Engine::V1(_) | Engine::Transit(_) => panic!("secret keeps versions"),
        }
    }

    /// Removes a secret in `secret` with its history.
    pub fn forget(&mut self, path: &str) {
        match self.engines.get_mut("secret").unwrap() {
            Engine::V2(engine) => engine.forget(path),
            Engine::V1(_) | Engine::Transit(_) => panic!("secret keeps versions"),
        }
    }

    /// Makes a token.
    pub fn token(&mut self, text: &str, now: u64, grant: Grant) {
        let ends_at = (grant.ttl > 0).then(|| now + grant.ttl);
        let made_at = now;
        self.tokens.insert(
            text.to_owned(),
            Token {
                grant,
                made_at,
                ends_at,
            },
        );
    }

    /// Lets somebody log in: `approle`, `jwt` or `kubernetes`.
    pub fn entry(&mut self, method: &str, role: &str, credential: &str, grant: Grant) {
        let entries = &mut self.logins.get_mut(method).unwrap().entries;
        entries.push((role.to_owned(), credential.to_owned(), grant));
    }

    /// Lets nobody log in any more.
    pub fn bar(&mut self) {
        self.logins.values_mut().for_each(|login| login.entries.clear());
    }

    /// Every token there is ends.
    pub fn revoke_all(&mut self) {
        self.tokens.clear();
    }

    pub(super) fn answer(
        &mut self,
        now: u64,
        method: &str,
        (path, query): (&str, &str),
        token: Option<&str>,
        body: &Value,
    ) -> Said {
        if let Some(mount) = path.strip_prefix("auth/").and_then(|rest| rest.strip_suffix("/login")) {
            return self.login(now, mount, body);
        }
        let denied = || Said::errors(403, &["1 error occurred:\n\t* permission denied\n\n"]);
        let text = token.unwrap_or_default();
        let known = self.tokens.get_mut(text);
        let Some(token) = known.filter(|token| token.ends_at.is_none_or(|end| now < end)) else {
            return denied();
        };
        if let Some(of_token) = path.strip_prefix("auth/token/") {
            return match (of_token, token.grant.default_policy) {
                ("lookup-self", true) if method == "GET" => token.looked_up(now),
                ("renew-self", true) if matches!(method, "POST" | "PUT") => token.renewed(text, now),
                _ => denied(),
            };
        }
        let allows = |path: &str| {
            let mut paths = token.grant.paths.iter();
            paths.any(|allowed| path.starts_with(allowed.as_str()))
        };
        if !allows(path) {
            return denied();
        }
        let makes_keys = allows("transit/keys/");
        let (mount, below) = path.split_once('/').unwrap_or((path, ""));
        match self.engines.get_mut(mount) {
            Some(Engine::V1(engine)) => engine.answer(method, below, body),
            Some(Engine::V2(engine)) => engine.answer(method, below, query, body),
            Some(Engine::Transit(engine)) => engine.answer(method, below, makes_keys, body),
            None => Said::errors(404, &["no handler for route. route entry not found."]),
        }
    }

    fn login(&mut self, now: u64, mount: &str, body: &Value) -> Said {
        let Some(login) = self.logins.get(mount) else {
            return Said::errors(404, &["no handler for route. route entry not found."]);
        };
        let (role, credential) = (body[login.role].as_str(), body[login.credential].as_str());
        let is_it =
            |entry: &&(String, String, Grant)| Some(entry.0.as_str()) == role && Some(entry.1.as_str()) == credential;
        let Some((_, _, grant)) = login.entries.iter().find(is_it) else {
            return Said::errors(login.refusal.0, &[login.refusal.1]);
        };
        let grant = grant.clone();
        self.made += 1;
        let text = format!("hvs.{mount}-{}", self.made);
        self.token(&text, now, grant.clone());
        Said::json(
            200,
            &envelope(&Value::Null, &authorized(&text, grant.ttl, grant.renewable)),
        )
    }
}

impl Token {
    fn looked_up(&self, now: u64) -> Said {
        let ttl = self.ends_at.map_or(0, |end| end - now);
        let data = json!({"ttl": ttl, "renewable": self.grant.renewable, "policies": ["default"], "type": "service"});
        Said::json(200, &envelope(&data, &Value::Null))
    }

    fn renewed(&mut self, text: &str, now: u64) -> Said {
        if !self.grant.renewable || self.ends_at.is_none() {
            return Said::errors(400, &["lease is not renewable"]);
        }
        let last = self.made_at.saturating_add(self.grant.max_ttl);
        let end = (now + self.grant.ttl).min(last);
        self.ends_at = Some(end);
        Said::json(200, &envelope(&Value::Null, &authorized(text, end - now, true)))
    }
}

fn authorized(token: &str, lease: u64, renewable: bool) -> Value {
    json!({
        "client_token": token, "accessor": "accessor", "policies": ["default"], "token_policies": ["default"],
        "metadata": {}, "lease_duration": lease, "renewable": renewable, "entity_id": "", "token_type": "service",
        "orphan": true,
    })
}

/// What every success of Vault's is wrapped in.
pub(super) fn envelope(data: &Value, auth: &Value) -> Value {
    json!({
        "request_id": "6f5c1f5e-0000-4000-8000-000000000000", "lease_id": "", "renewable": false,
        "lease_duration": 0, "data": data, "wrap_info": null, "warnings": null, "auth": auth,
    })
}
