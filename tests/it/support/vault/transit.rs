//! How Vault's Transit engine keeps keys and works with them: versions of AES-256-GCM that never leave it.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::Said;
use super::namespace::envelope;

/// A Transit engine.
#[derive(Default)]
pub(super) struct Transit {
    keys: BTreeMap<String, Vec<[u8; 32]>>,
    /// What it was given to encrypt, in order.
    encrypted: Vec<Vec<u8>>,
}

impl Transit {
    /// Makes a key, or its next version.
    pub(super) fn make(&mut self, name: &str) {
        let mut key = [0; 32];
        rand::fill(&mut key).unwrap();
        self.keys.entry(name.to_owned()).or_default().push(key);
    }

    pub(super) fn encrypted(&self) -> Vec<Vec<u8>> {
        self.encrypted.clone()
    }

    /// `may_make`: whether who asks may make keys, by encrypting with one that there is not, too.
    pub(super) fn answer(&mut self, method: &str, below: &str, may_make: bool, body: &Value) -> Said {
        let (what, name) = below.split_once('/').unwrap_or((below, ""));
        let writes = matches!(method, "POST" | "PUT");
        match what {
            "keys" if writes => {
                let (name, change) = name.split_once('/').unwrap_or((name, ""));
                if change == "rotate" || !self.keys.contains_key(name) {
                    self.make(name);
                }
                self.shown(name)
            }
            "keys" if method == "GET" => self.shown(name),
            "encrypt" if writes => {
                if !self.keys.contains_key(name) {
                    if !may_make {
                        return Said::errors(403, &["1 error occurred:\n\t* permission denied\n\n"]);
                    }
                    self.make(name);
                }
                each(body, "plaintext", |text| self.encrypt(name, text))
            }
            "decrypt" if writes => match self.keys.get(name) {
                None => Said::errors(400, &["encryption key not found"]),
                Some(versions) => each(body, "ciphertext", |text| decrypt(versions, text)),
            },
            _ => Said::errors(404, &["no handler for route. route entry not found."]),
        }
    }

    fn shown(&self, name: &str) -> Said {
        let Some(versions) = self.keys.get(name) else {
            return Said::errors(404, &[]);
        };
        let numbers = (1..=versions.len()).map(|number| (number.to_string(), json!(1_795_599_987)));
        let numbers: serde_json::Map<String, Value> = numbers.collect();
        let data = json!({
            "name": name, "type": "aes256-gcm96", "keys": numbers, "latest_version": versions.len(),
            "min_decryption_version": 1, "derived": false, "exportable": false, "supports_decryption": true,
        });
        Said::json(200, &envelope(&data, &Value::Null))
    }

    fn encrypt(&mut self, name: &str, text: &str) -> Result<Value, &'static str> {
        let mut bytes = BASE64
            .decode(text.as_bytes())
            .map_err(|_| "illegal base64 data at input byte 0")?;
        self.encrypted.push(bytes.clone());
        let versions = &self.keys[name];
        let key = RandomizedNonceKey::new(&AES_256_GCM, versions.last().unwrap()).unwrap();
        let nonce = key.seal_in_place_append_tag(Aad::empty(), &mut bytes).unwrap();
        let sealed = [nonce.as_ref().as_slice(), &bytes].concat();
        let number = versions.len();
        Ok(json!({"ciphertext": format!("vault:v{number}:{}", BASE64.encode(&sealed)), "key_version": number}))
    }
}

fn decrypt(versions: &[[u8; 32]], text: &str) -> Result<Value, &'static str> {
    let rest = text.strip_prefix("vault:v").ok_or("invalid ciphertext: no prefix")?;
    let (number, sealed) = rest
        .split_once(':')
        .ok_or("invalid ciphertext: wrong number of fields")?;
    let version = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let version = version.ok_or("invalid ciphertext: version number could not be decoded")?;
    let key = versions.get(version).ok_or("invalid ciphertext: version is too new")?;
    let mut bytes = BASE64
        .decode(sealed.as_bytes())
        .map_err(|_| "invalid ciphertext: could not decode base64")?;
    if bytes.len() < NONCE_LEN {
        return Err("invalid ciphertext length");
    }
    let mut sealed = bytes.split_off(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(&bytes).unwrap();
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).unwrap();
    let opened = key.open_in_place(nonce, Aad::empty(), &mut sealed);
    let opened = opened.map_err(|_| "cipher: message authentication failed")?;
    Ok(json!({"plaintext": BASE64.encode(opened)}))
}

/// One text, or each of a batch: then one failure makes 400 of it all, with every other result in it.
fn each(body: &Value, field: &str, mut work: impl FnMut(&str) -> Result<Value, &'static str>) -> Said {
    let mut one = |item: &Value| work(item[field].as_str().unwrap_or_default());
    let Some(batch) = body.get("batch_input") else {
        return match one(body) {
            Ok(data) => Said::json(200, &envelope(&data, &Value::Null)),
            Err(error) => Said::errors(400, &[error]),
        };
    };
    let items = batch.as_array().cloned().unwrap_or_default();
    if items.is_empty() {
        return Said::errors(400, &["missing batch input to process"]);
    }
    let results: Vec<_> = items.iter().map(one).collect();
    let status = if results.iter().all(Result::is_ok) { 200 } else { 400 };
    let results = results.into_iter().map(|result| match result {
        Ok(mut data) => {
            data["reference"] = json!("");
            data
        }
        Err(error) => json!({"plaintext": "", "error": error, "reference": ""}),
    });
    let data = json!({"batch_results": results.collect::<Vec<_>>()});
    Said::json(status, &envelope(&data, &Value::Null))
}
