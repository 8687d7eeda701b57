//! A throw-away PostgreSQL server for this test process: started once, gone with the process however that ends.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;

use super::captured::{Captured, PATIENCE};

/// Starts the server from a template (made once, kept beside the build), and does as it is told on its input. When that
/// ends, because the test process did, it stops the server and removes its files.
const KEEPER: &str = r#"
if [ "$(id -u)" = 0 ]; then as="setpriv --reuid=postgres --regid=postgres --clear-groups"; else as=""; fi
if [ "$(id -u)" = 0 ]; then chown -R postgres "$BASE"; fi
if [ -e "$TEMPLATE" ]; then
    cp -a "$TEMPLATE" "$BASE/data"
else
    $as "$BIN/initdb" -D "$BASE/data" -U kiket -A trust -E UTF8 --no-locale --no-sync --wal-segsize=1 >/dev/null || exit 1
    cp -a "$BASE/data" "$TEMPLATE.$$"
    mv -T "$TEMPLATE.$$" "$TEMPLATE" 2>/dev/null || rm -rf "$TEMPLATE.$$"
fi
start() {
    $as "$BIN/postgres" -D "$BASE/data" -c unix_socket_directories="$BASE" -c listen_addresses="$LISTEN" \
        -c fsync=off -c max_connections=500 -c lc_messages=C "$@" 2>&1 &
    server=$!
}
end() {
    children=$(cat /proc/"$server"/task/*/children)
    kill -"$1" "$server" $children 2>/dev/null
    wait "$server"
    for child in $children; do while [ -s "/proc/$child/cmdline" ]; do sleep 0.01; done; done
}
start "$@"
while read -r order; do
    case "$order" in
    kill) end KILL; echo "the server was killed" ;;
    start) start "$@" ;;
    esac
done
exec >/dev/null 2>&1 # nobody reads it any more
end QUIT
rm -rf "$BASE"
"#;

/// A server.
pub struct Cluster {
    base: PathBuf,
    port: u16,
    keeper: Mutex<(Child, Option<ChildStdin>)>,
    /// Everything that the server logged.
    pub log: Captured,
    orders: Mutex<mpsc::Sender<String>>,
}

/// How a server is started beside the defaults of tests.
#[derive(Default)]
pub struct ClusterOptions {
    /// Listens on loopback, with this certificate and key.
    pub tls: Option<(String, String)>,
    /// Listens on loopback.
    pub listens: bool,
}

/// A database in it that nobody has used yet. Dropped with this value.
pub struct Database {
    cluster: Arc<Cluster>,
    name: String,
}

impl Database {
    /// In the server that all tests of this process share.
    pub fn fresh() -> Self {
        static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
        Cluster::database(SHARED.get_or_init(|| Cluster::start(ClusterOptions::default())))
    }

    /// As the product is told of it.
    pub fn url(&self) -> String {
        let base = self.cluster.base.display();
        format!("postgres:///{}?host={base}&user=kiket", self.name)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A connection of somebody who has got at it.
    pub async fn raw(&self) -> PgConnection {
        self.cluster.options(&self.name).connect().await.unwrap()
    }

    /// The same, where no runtime is: runs statements and tells how many rows they touched.
    pub fn run(&self, sql: &str) -> u64 {
        self.cluster.run(&self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let order = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let _ = self.cluster.orders.lock().unwrap().send(order); // the server may be gone
    }
}

impl Cluster {
    pub fn start(options: ClusterOptions) -> Arc<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() {
            TempDir::new_in(memory)
        } else {
            TempDir::new()
        };
        let base = base.unwrap().keep(); // the keeper removes it
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]);
        let (mut listen, mut port) = ("", 5432);
        if options.listens || options.tls.is_some() {
            (listen, port) = ("127.0.0.1", free_port());
            command.args(["-p", &port.to_string()]);
        }
        if let Some((certificate, key)) = &options.tls {
            fs::write(base.join("server.pem"), certificate).unwrap();
            fs::write(base.join("server.key"), key).unwrap();
            super::instance::set_mode(&base.join("server.key"), 0o600);
            for (name, file) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")] {
                command.arg("-c").arg(format!("{name}={}", base.join(file).display()));
            }
            command.args(["-c", "ssl=on"]);
        }
        let (bin, version) = installed();
        let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{version}"));
        let command = command
            .env("BASE", &base)
            .env("BIN", &bin)
            .env("TEMPLATE", &template)
            .env("LISTEN", listen)
            .env_remove("PGDATA")
            .process_group(0) // no Ctrl-C of the terminal
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        let log = Captured::start(keeper.stdout.take().unwrap());
        let said = Captured::start(keeper.stderr.take().unwrap());
        let is_ready = log.line_with("ready to accept connections").is_some();
        assert!(is_ready, "no server: {}{}", log.text(), said.text());
        let (orders, waiting) = mpsc::channel();
        let stdin = keeper.stdin.take();
        let cluster = Arc::new(Self {
            base,
            port,
            keeper: Mutex::new((keeper, stdin)),
            log,
            orders: Mutex::new(orders),
        });
        let options = cluster.options("postgres");
        thread::spawn(move || carry_out(&options, &waiting));
        cluster
    }

    /// A database in it that nobody has used yet.
    pub fn database(self: &Arc<Self>) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("kiket_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name}"));
        Database {
            cluster: Arc::clone(self),
            name,
        }
    }

    /// Where it listens on loopback.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its files.
    pub fn data(&self) -> PathBuf {
        self.base.join("data")
    }

    /// Ends the server and all its processes at once, as `kill -9` does.
    pub fn kill(&self) {
        let times = self.log.text().matches("the server was killed").count();
        self.tell("kill");
        self.log.wait_for("the server was killed", times + 1);
    }

    /// Starts it again.
    pub fn start_again(&self) {
        let times = self.log.text().matches("ready to accept connections").count();
        self.tell("start");
        self.log.wait_for("ready to accept connections", times + 1);
    }

    fn tell(&self, order: &str) {
        let mut keeper = self.keeper.lock().unwrap();
        writeln!(keeper.1.as_mut().unwrap(), "{order}").unwrap();
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.base)
            .port(self.port)
            .username("kiket")
            .database(database)
            .disable_statement_logging()
    }

    fn run(&self, database: &str, sql: &str) -> u64 {
        let options = self.options(database);
        let work = async move |sql: String| {
            let mut connection = options.connect().await.unwrap();
            let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection).await;
            done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
        };
        apart(work, sql)
    }
}

/// Runs SQL to its end, on a runtime of its own: whoever asks may be on one, or on none.
pub fn apart(work: impl AsyncFnOnce(String) -> u64 + Send + 'static, sql: &str) -> u64 {
    let sql = sql.to_owned();
    let done = thread::spawn(move || alone(work(sql))).join();
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap();
        drop(keeper.1.take()); // ends it
        let _ = keeper.0.wait();
    }
}

/// Removes databases that are not needed any more, while tests go on.
fn carry_out(options: &PgConnectOptions, orders: &mpsc::Receiver<String>) {
    alone(async {
        while let Ok(order) = orders.recv() {
            let Ok(mut connection) = options.connect().await else {
                continue;
            };
            let _ = sqlx::raw_sql(AssertSqlSafe(order)).execute(&mut connection).await; // goes with the server otherwise
        }
    });
}

fn alone<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, work).await })
        .expect("hangs")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The newest server that Debian's packages brought: its programs, and its version.
fn installed() -> (PathBuf, u32) {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed; tests/run does it");
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| Path::new(&format!("/usr/lib/postgresql/{version}/bin/postgres")).is_file())
        .max()
        .expect("PostgreSQL's server is not installed; tests/run does it");
    (format!("/usr/lib/postgresql/{newest}/bin").into(), newest)
}
