//! How the sidecar is run: settings, keys, listeners, guards, log, then the app until a signal ends it.

use std::fmt::Display;
use std::sync::Arc;

use super::config::Settings;
use super::{Exit, Failure, fail};
use crate::app::{self, Setup, Sockets, StartError, Supervisor};
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::guard;
use crate::server::Inherited;
use crate::store::{self, OpenError};
use crate::telemetry::logging::{self, LogFormat};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  KIKET_MASTER_KEY_FILE=master.key KIKET_DATABASE_URL=sqlite:kiket.db kiket serve
  kiket serve --config /etc/kiket/kiket.toml --set log_format=text
  KIKET_DATABASE_URL=postgres://kiket@db/kiket kiket serve --role proxy

Every setting is explained by `kiket config print --manual`. SIGTERM drains, a second one ends at once.")]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(args: &Args) -> Exit {
    match prepare(args) {
        Ok((sockets, setup)) => serve(sockets, setup),
        Err(failure) => fail(failure.exit, &failure.reason),
    }
}

/// Everything that needs no thread but the log's, which is started last: the guards confine only threads that come
/// after them. Keys are read before anything is bound, so that nothing is left behind where there are none.
fn prepare(args: &Args) -> Result<(Sockets, Setup), Failure> {
    let usage = |error: &dyn Display| Failure::usage(error.to_string());
    let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let inherited = Inherited::take(env("LISTEN_FDNAMES").as_deref()).map_err(|error| usage(&error))?;
    let config = app::adopt(&inherited, args.settings.loaded()?).map_err(|error| usage(&error))?;
    let keyring = app::read_keys(&config)?;
    let supervisor = Supervisor::connect(env).map_err(|error| usage(&error))?;
    let sockets = Sockets::bind_beside(inherited, &config).map_err(|error| usage(&error))?;
    guard::apply(&guard::Plan {
        writable: store::folders(&config.database_url),
        emptied: Vec::new(),
        keys: keyring.addresses(),
        hide: true,
    });
    if config.require_guards {
        guard::require_all().map_err(|error| usage(&error))?;
    }
    let log = logging::init(log_format(&config), &config.log).map_err(|error| usage(&error))?;
    logging::install_panic_hook();
    for (guard, status) in guard::report() {
        if !status.is_active() {
            tracing::warn!(guard = guard.name(), state = status.name(), "a guard is not active");
        }
    }
    let setup = Setup {
        config,
        keyring,
        clock: Arc::new(SystemClock),
        log,
        resolver: None,
        store: None,
        supervisor,
    };
    Ok((sockets, setup))
}

fn serve(sockets: Sockets, setup: Setup) -> Exit {
    let (log, supervisor) = (setup.log.clone(), setup.supervisor.clone());
    let running = match app::start_on(sockets, setup) {
        Ok(running) => running,
        Err(error) => {
            log.flush();
            return fail(exit_of(&error), &error);
        }
    };
    if let Err(error) = running.on_signals() {
        return fail(
            Exit::Unavailable,
            &format!("signals cannot be handled: {}", error.kind()),
        );
    }
    let proxy: Vec<String> = running.proxy().iter().map(ToString::to_string).collect();
    let (proxy, metrics) = (proxy.join(","), running.metrics());
    let admin = running.admin().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(proxy, admin, %metrics, version = env!("CARGO_PKG_VERSION"), "serving");
    supervisor.ready();
    running.wait();
    tracing::info!("stopped");
    log.flush();
    Exit::Fine
}

/// A store that is away may come back; the rest is for an operator to change.
fn exit_of(error: &StartError) -> Exit {
    match error {
        StartError::Store(_) | StartError::Open(OpenError::Unreachable | OpenError::Behind) => Exit::Unavailable,
        _ => Exit::Usage,
    }
}

fn log_format(config: &Config) -> LogFormat {
    match config.log_format {
        config::LogFormat::Json => LogFormat::Json,
        config::LogFormat::Text => LogFormat::Text,
    }
}
