//! The bench's own peers: `endpoint` counts what it receives, `passthrough` is a proxy that does nothing but pass on,
//! `tenants` is an endpoint that many tenants share, `dispatch` delivers for them.
//!
//! ```text
//! kiket-bench endpoint ADDRESS ANSWER_BYTES [AFTER_MILLIS | CERTIFICATE KEY [CLIENT_CA]]
//! kiket-bench passthrough ADDRESS ENDPOINT_ADDRESS
//! kiket-bench tenants ADDRESS COUNTS_ADDRESS CERTIFICATE KEY CLIENT_CA
//! kiket-bench dispatch ADDRESS IN_FLIGHT COUNT SECONDS RATE TENANTS HOSTS BYTES HEED
//! ```

mod dispatch;
mod endpoint;
mod passthrough;
mod tenants;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

const USAGE: &str = "usage: kiket-bench endpoint ADDRESS ANSWER_BYTES [AFTER_MILLIS | CERTIFICATE KEY [CLIENT_CA]] \
                     | passthrough ADDRESS ENDPOINT | tenants ADDRESS COUNTS_ADDRESS CERTIFICATE KEY CLIENT_CA \
                     | dispatch ADDRESS IN_FLIGHT COUNT SECONDS RATE TENANTS HOSTS BYTES HEED";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    match words.as_slice() {
        ["endpoint", address, answer_bytes, pki @ ..] => {
            let (tls, after) = match pki {
                [] => (None, 0),
                [millis] => (None, millis.parse()?),
                [certificate, key] => (Some(endpoint::tls(certificate, key, None)?), 0),
                [certificate, key, client_ca] => (Some(endpoint::tls(certificate, key, Some(client_ca))?), 0),
                _ => return Err(USAGE.into()),
            };
            let answer = endpoint::Answer {
                body: endpoint::json(answer_bytes.parse()?),
                after: Duration::from_millis(after),
            };
            local.block_on(&runtime, endpoint::run(address.parse::<SocketAddr>()?, tls, answer))
        }
        ["passthrough", address, to] => local.block_on(&runtime, passthrough::run(address.parse()?, to.parse()?)),
        ["tenants", address, counts, certificate, key, client_ca] => {
            let tls = endpoint::tls(certificate, key, Some(client_ca))?;
            local.block_on(&runtime, tenants::run(address.parse()?, counts.parse()?, tls))
        }
        [
            "dispatch",
            address,
            in_flight,
            count,
            seconds,
            rate,
            tenants,
            hosts,
            bytes,
            heed,
        ] => {
            let load = dispatch::Load {
                in_flight: in_flight.parse()?,
                count: count.parse()?,
                seconds: seconds.parse()?,
                rate: rate.parse()?,
                tenants: tenants.parse()?,
                hosts: hosts.parse()?,
                bytes: bytes.parse()?,
                heeds: heed.parse()?,
            };
            local.block_on(&runtime, dispatch::run(address.parse()?, load))
        }
        _ => Err(USAGE.into()),
    }
}
