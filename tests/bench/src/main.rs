//! The bench's own peers: `endpoint` counts what it receives, `passthrough` is a proxy that does nothing but pass on.
//!
//! ```text
//! kiket-bench endpoint ADDRESS [CERTIFICATE KEY [CLIENT_CA]]
//! kiket-bench passthrough ADDRESS ENDPOINT_ADDRESS
//! ```

mod endpoint;
mod passthrough;

use std::error::Error;
use std::net::SocketAddr;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    match words.as_slice() {
        ["endpoint", address] => local.block_on(&runtime, endpoint::run(address.parse::<SocketAddr>()?, None)),
        ["endpoint", address, certificate, key] => {
            let tls = endpoint::tls(certificate, key, None)?;
            local.block_on(&runtime, endpoint::run(address.parse()?, Some(tls)))
        }
        ["endpoint", address, certificate, key, client_ca] => {
            let tls = endpoint::tls(certificate, key, Some(client_ca))?;
            local.block_on(&runtime, endpoint::run(address.parse()?, Some(tls)))
        }
        ["passthrough", address, to] => local.block_on(&runtime, passthrough::run(address.parse()?, to.parse()?)),
        _ => Err("usage: kiket-bench endpoint ADDRESS [CERTIFICATE KEY [CLIENT_CA]] | passthrough ADDRESS ENDPOINT".into()),
    }
}
