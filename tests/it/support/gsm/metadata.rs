//! The metadata server of a machine in Google's cloud: hands its token to whoever asks as is asked there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use super::super::backend::{Asked, Backend, Told};

const FLAVOR: &str = "metadata-flavor";
const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// A running metadata server. In the clear, as the real one is.
pub struct MetadataServer {
    backend: Backend,
    script: Script,
}

/// What is said instead of the token, once each.
type Script = Arc<Mutex<VecDeque<Told>>>;

impl MetadataServer {
    /// Hands out `{token}-1`, `{token}-2` and so on, each good for so many seconds.
    pub fn start(token: &'static str, expires_in: u64) -> Self {
        let script = Script::default();
        let (taken, served) = (Arc::clone(&script), Mutex::new(0));
        let backend = Backend::start(None, move |asked| {
            if let Some(told) = taken.lock().unwrap().pop_front() {
                return told;
            }
            let mut served = served.lock().unwrap();
            tell(asked, || {
                *served += 1;
                json!({"access_token": format!("{token}-{served}"), "expires_in": expires_in, "token_type": "Bearer"})
            })
        });
        Self { backend, script }
    }

    pub fn url(&self) -> String {
        self.backend.url()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.backend.asked()
    }

    /// What the next questions are answered with.
    pub fn next(&self, told: impl IntoIterator<Item = Told>) {
        self.script.lock().unwrap().extend(told);
    }
}

/// An answer as the real one heads them.
pub fn flavored(status: StatusCode, body: &str) -> Told {
    let answer = Response::builder()
        .status(status)
        .header(FLAVOR, "Google")
        .header("content-type", "application/json");
    Told::Whole(answer.body(Bytes::from(body.to_owned())).unwrap())
}

fn tell(asked: &Asked, token: impl FnOnce() -> serde_json::Value) -> Told {
    if asked.header(FLAVOR) != Some("Google") || asked.header("x-forwarded-for").is_some() {
        return flavored(StatusCode::FORBIDDEN, "Missing Metadata-Flavor:Google header.");
    }
    if asked.path == TOKEN {
        flavored(StatusCode::OK, &token().to_string())
    } else {
        flavored(StatusCode::NOT_FOUND, "not found")
    }
}
