//! How Vault's KV engines keep secrets: one value per path, or versions that can be deleted, restored and destroyed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Said;
use super::namespace::envelope;

/// KV version 1.
#[derive(Default)]
pub(super) struct V1(BTreeMap<String, Value>);

/// KV version 2.
#[derive(Default)]
pub(super) struct V2 {
    secrets: BTreeMap<String, Vec<Version>>,
    written: u64,
}

struct Version {
    data: Option<Value>,
    created: String,
    deleted: bool,
}

/// Some moment, as Vault writes it.
const DELETED_AT: &str = "2026-11-25T05:00:00.000000001Z";

fn absent() -> Said {
    Said::errors(404, &[])
}

impl V1 {
    pub(super) fn put(&mut self, path: &str, data: Value) {
        self.0.insert(path.to_owned(), data);
    }

    pub(super) fn answer(&mut self, method: &str, path: &str, body: &Value) -> Said {
        match method {
            "GET" => self
                .0
                .get(path)
                .map_or_else(absent, |data| Said::json(200, &envelope(data, &Value::Null))),
            "POST" | "PUT" => {
                self.put(path, body.clone());
                Said::nothing()
            }
            "DELETE" => {
                self.0.remove(path);
                Said::nothing()
            }
            _ => Said::errors(405, &["unsupported operation"]),
        }
    }
}

impl V2 {
    /// Writes the next version, and returns its metadata.
    pub(super) fn put(&mut self, path: &str, data: Value) -> Value {
        self.written += 1;
        let versions = self.secrets.entry(path.to_owned()).or_default();
        versions.push(Version {
            data: Some(data),
            created: format!("2026-11-25T04:20:55.{:09}Z", self.written),
            deleted: false,
        });
        versions[versions.len() - 1].metadata(versions.len())
    }

    pub(super) fn remove(&mut self, path: &str, versions: &[u64], destroy: bool) {
        for (at, version) in self.secrets.get_mut(path).into_iter().flatten().enumerate() {
            if versions.contains(&(at as u64 + 1)) {
                if destroy {
                    version.data = None;
                } else {
                    version.deleted = true;
                }
            }
        }
    }

    pub(super) fn forget(&mut self, path: &str) {
        self.secrets.remove(path);
    }

    pub(super) fn answer(&mut self, method: &str, below: &str, query: &str, body: &Value) -> Said {
        let (what, path) = below.split_once('/').unwrap_or((below, ""));
        let versions: Vec<u64> = body["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect();
        match (what, method) {
            ("data", "GET") => self.read(path, query),
            ("data", "POST" | "PUT") => {
                let metadata = self.put(path, body["data"].clone());
                Said::json(200, &envelope(&metadata, &Value::Null))
            }
            ("data", "DELETE") => {
                let last = self.secrets.get(path).map_or(0, Vec::len) as u64;
                self.remove(path, &[last], false);
                Said::nothing()
            }
            ("delete", "POST" | "PUT") => {
                self.remove(path, &versions, false);
                Said::nothing()
            }
            ("undelete", "POST" | "PUT") => {
                let all = self.secrets.get_mut(path).into_iter().flatten().enumerate();
                all.filter(|(at, _)| versions.contains(&(*at as u64 + 1)))
                    .for_each(|(_, version)| version.deleted = false);
                Said::nothing()
            }
            ("destroy", "POST" | "PUT") => {
                self.remove(path, &versions, true);
                Said::nothing()
            }
            ("metadata", "DELETE") => {
                self.forget(path);
                Said::nothing()
            }
            ("metadata", "GET") => self.history(path),
            _ => absent(),
        }
    }

    fn read(&self, path: &str, query: &str) -> Said {
        let Some(versions) = self.secrets.get(path) else {
            return absent();
        };
        let number = match query.strip_prefix("version=") {
            None | Some("0") => versions.len(),
            Some(number) => number.parse().unwrap(),
        };
        let Some(version) = number.checked_sub(1).and_then(|at| versions.get(at)) else {
            return absent();
        };
        let data = version.data.as_ref().filter(|_| !version.deleted);
        let status = if data.is_some() { 200 } else { 404 };
        let body = json!({"data": data, "metadata": version.metadata(number)});
        Said::json(status, &envelope(&body, &Value::Null))
    }

    fn history(&self, path: &str) -> Said {
        let Some(versions) = self.secrets.get(path) else {
            return absent();
        };
        let numbered = versions.iter().enumerate().map(|(at, version)| {
            let mut metadata = version.metadata(at + 1);
            metadata.as_object_mut().unwrap().remove("version");
            ((at + 1).to_string(), metadata)
        });
        let numbered: serde_json::Map<String, Value> = numbered.collect();
        let data = json!({"current_version": versions.len(), "oldest_version": 0, "versions": numbered});
        Said::json(200, &envelope(&data, &Value::Null))
    }
}

impl Version {
    fn metadata(&self, number: usize) -> Value {
        json!({
            "created_time": self.created, "custom_metadata": null,
            "deletion_time": if self.deleted { DELETED_AT } else { "" },
            "destroyed": self.data.is_none(), "version": number,
        })
    }
}
