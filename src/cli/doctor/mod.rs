//! `kiket doctor`: what a start with these settings needs, whether it is there, and what to do where it is not.
//!
//! One question per file. Nothing is changed: not the store, not what a running process holds.

mod certificates;
mod check;
mod clock;
mod configuration;
mod descriptors;
mod egress;
mod guards;
mod keys;
mod listeners;
mod names;
mod registered;
mod sealed;
mod store;

use std::sync::Arc;
use std::time::Duration;

use super::config::Settings;
use super::remote::Form;
use super::{Exit, fail, say};
use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::crypto::keyring::Keyring;
use crate::store::{OpenError, look};
use check::Check;
use registered::Registered;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket doctor --config /etc/kiket/kiket.toml
  KIKET_MASTER_KEY_FILE=master.key KIKET_DATABASE_URL=sqlite:kiket.db kiket doctor
  kiket doctor --output json

With the settings of `kiket serve`, as its user and on its host; it may be running. Looks at configuration, keys, store,
whether the keys open what the store holds, clock, names, destinations, certificates, listeners, file descriptors and
the kernel's guards, and says what to do where something is not right. Changes nothing, sends nothing to an endpoint,
prints no value and no key. Names are looked up; a Vault that wraps the keys is asked once, as at a start.

Exit codes: 0 nothing to do, 1 a finding (warnings count), 2 the configuration has to be changed, 3 the store is away.")]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
    /// A table to read, or JSON
    #[arg(long, short, value_name = "table|json", value_enum, default_value_t = Form::Table,
        hide_possible_values = true, hide_default_value = true)]
    output: Form,
}

/// For a Vault that wraps the keys.
const TRANSIT_WAIT: Duration = Duration::from_secs(5);

/// What a lookup that is still under way may keep the end waiting.
const LEAVE_WAIT: Duration = Duration::from_millis(100);

pub(super) fn run(args: &Args) -> Exit {
    let mut config = match args.settings.load() {
        Ok(config) => config,
        Err(error) => {
            say(&check::shown(args.output, &[configuration::unusable(&error)]));
            return Exit::Usage;
        }
    };
    let configured = configuration::look(&config);
    let is_usable = !configured.is_finding();
    if let Some(transit) = &mut config.master_key_transit {
        transit.wait = transit.wait.min(TRANSIT_WAIT); // a start has more patience than whoever asks now
    }
    // Blocks, and is not called within a runtime: Vault may be asked.
    let read = app::read_keys(&config);
    let mut checks = vec![configured, keys::look(&config, &read)];
    let keyring = read.ok().map(Arc::new);
    let spare = match keyring
        .as_ref()
        .map_or_else(spare_keyring, |keyring| Ok(Arc::clone(keyring)))
    {
        Ok(spare) => spare,
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Unavailable, &format!("cannot start a runtime: {}", error.kind())),
    };
    let (of_rows, is_away) = runtime.block_on(rows(&config, keyring.as_ref(), &spare));
    runtime.shutdown_timeout(LEAVE_WAIT);
    checks.extend(of_rows);
    checks.extend(listeners::look(&config));
    checks.push(descriptors::look(&config));
    // Last: none of them can be taken back.
    checks.push(guards::look(&config, &spare));
    say(&check::shown(args.output, &checks));
    match (is_usable, is_away, checks.iter().any(Check::is_finding)) {
        (false, _, _) => Exit::Usage,
        (true, true, _) => Exit::Unavailable,
        (true, false, true) => Exit::Finding,
        (true, false, false) => Exit::Fine,
    }
}

/// Keys of nobody: where those of the file cannot be read, the rest is looked at without them.
fn spare_keyring() -> Result<Arc<Keyring>, Exit> {
    let made = Keyring::generate(SystemClock.now()).map(Arc::new);
    made.map_err(|error| fail(Exit::Unavailable, &error))
}

/// What is told by the store, and by the names and certificates in it; and whether the store is away.
async fn rows(config: &Config, keyring: Option<&Arc<Keyring>>, spare: &Arc<Keyring>) -> (Vec<Check>, bool) {
    let looked = look(&config.database_url, spare.chain_key()).await;
    let is_away = matches!(looked, Err(OpenError::Unreachable));
    let seen = looked.as_ref().ok();
    let rows = seen.and_then(|look| look.rows.as_ref());
    let registered = match (rows, keyring) {
        (Some(rows), Some(keyring)) => Some(registered::read(rows, keyring).await),
        _ => None,
    };
    let found = registered.as_ref().and_then(|read| read.as_ref().ok());
    let nothing = Registered::default();
    let names = names::looked_up(found.unwrap_or(&nothing)).await;
    let checks = vec![
        store::look(config, &looked).await,
        sealed::look(config, rows, keyring, registered.as_ref()).await,
        clock::look(seen).await,
        names::look(&names),
        egress::look(config, found, &names),
        certificates::look(config, found, rows, keyring).await,
    ];
    (checks, is_away)
}
