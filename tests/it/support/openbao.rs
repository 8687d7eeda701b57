//! A real OpenBao, which speaks Vault's API: in memory, for one test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::captured::Captured;

/// The token that may do everything.
pub const ROOT: &str = "root";

/// A server in memory that ends when dropped.
pub struct OpenBao {
    address: std::net::SocketAddr,
    child: Child,
    _log: Captured,
    _home: TempDir,
}

impl OpenBao {
    /// The one that `tests/run` found; where it finds none, it leaves out what needs one, and says so.
    pub fn start() -> Self {
        let binary = std::env::var_os("KIKET_TEST_OPENBAO");
        let binary =
            PathBuf::from(binary.expect("KIKET_TEST_OPENBAO names the binary; `--skip openbao::` without one"));
        let home = TempDir::new().unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut child = Command::new(binary)
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address={address}"))
            .env_clear()
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let log = Captured::start(child.stdout.take().unwrap());
        let started = log.line_with("Root Token");
        assert!(started.is_some(), "OpenBao ended: {}", log.text());
        Self {
            address,
            child,
            _log: log,
            _home: home,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
