//! `kiket deliver`: a recorded invocation, sent through a running sidecar, or shown as it would be sent.

mod answer;
mod invocation;
mod preview;
mod proxy;

use std::path::PathBuf;

use serde_json::{Value, json};

use super::extensions::explain;
use super::remote::{self, Form, Remote};
use super::{Exit, Failure, Outcome, say, warn};
use crate::clock::{Clock, SystemClock};
use invocation::Invocation;
use proxy::Proxy;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket deliver invocation.json --installation ins_7 --event issue.created
  kiket deliver invocation.json --installation ins_7 --dry-run
  kiket deliver - --installation ins_7 --proxy unix:/run/kiket/proxy.sock < invocation.json

The file goes out as the dispatcher would send it, once. The answer is printed, then where each key's value came from,
for which --url and an API token are needed. --dry-run needs them, too: it asks the API what a delivery would get, and
puts a mask where each value would stand; it sends nothing. Without --event the callback's own URL is called.

Exit codes: 0 delivered and answered with 2xx, 1 the endpoint answered otherwise or not at all, or a required secret is
missing, 2 usage, 3 the sidecar or its store is away, 4 refused.")]
pub(super) struct Args {
    /// A JSON file with an invocation as the dispatcher has it; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The installation that it is for
    #[arg(long, value_name = "ID", value_parser = invocation::installation)]
    installation: String,
    /// The event: the path is /webhooks/NAME
    #[arg(long, value_name = "NAME", value_parser = invocation::event)]
    event: Option<String>,
    /// The sidecar, or KIKET_PROXY_URL; also unix:/PATH
    #[arg(
        long,
        value_name = "URL",
        env = "KIKET_PROXY_URL",
        hide_env = true,
        default_value = "http://127.0.0.1:8080"
    )]
    proxy: String,
    /// A file with the dispatcher's token, or KIKET_DISPATCHER_TOKEN_FILE
    #[arg(long, value_name = "FILE", env = "KIKET_DISPATCHER_TOKEN_FILE", hide_env = true)]
    dispatcher_token_file: Option<PathBuf>,
    /// Send nothing: show what would be sent, with every value masked
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Args {
    /// The path of the request, below the callback's own.
    fn path(&self) -> String {
        self.event
            .as_ref()
            .map_or_else(|| String::from("/"), |event| format!("/webhooks/{event}"))
    }
}

pub(super) fn run(args: &Args) -> Outcome {
    let invocation = Invocation::read(&args.file)?;
    if args.dry_run {
        preview::run(args, invocation)
    } else {
        send(args, invocation)
    }
}

fn send(args: &Args, invocation: Invocation) -> Outcome {
    let proxy = Proxy::parse(&args.proxy, args.dispatcher_token_file.as_deref())?;
    let answer = proxy.deliver(&args.path(), &args.installation, invocation.body)?;
    let explanation = explanation(args);
    match args.remote.output {
        Form::Json => {
            let explanation = explanation.as_ref().ok();
            let both = json!({ "answer": answer.document(), "explanation": explanation });
            say(&remote::json(&both));
        }
        Form::Table => {
            say(&answer.told());
            if let Ok(explanation) = &explanation {
                say(&format!("\n{}", explain::told(explanation, SystemClock.now())));
            }
        }
    }
    if let Err(failure) = explanation {
        warn(&format!("where the values came from is not told: {}", failure.reason));
    }
    answer.outcome()
}

/// What the installation resolves to, as the API says it.
fn explanation(args: &Args) -> Result<Value, Failure> {
    Ok(explain::ask(
        &args.remote,
        &args.remote.client()?,
        &args.installation,
        None,
    )?)
}

/// A refusal: what it is and what to do, as the command ends.
fn refused(problem: &super::client::Problem) -> Outcome {
    Err(Failure {
        exit: exit_of(problem),
        reason: problem.to_string(),
    })
}

/// Of what the sidecar says itself: whether a value is missing, the endpoint is at fault, it is a matter of time, or no.
fn exit_of(problem: &super::client::Problem) -> Exit {
    match (problem.name(), problem.status) {
        (_, 424) | ("endpoint-circuit-open", _) => Exit::Finding,
        ("destination-refused" | "mtls-identity-invalid", _) => Exit::Refused,
        (_, 502 | 504) => Exit::Finding,
        (_, 429 | 500..) => Exit::Unavailable,
        _ => Exit::Refused,
    }
}
