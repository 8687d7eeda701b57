//! Where a command's server is, whose token it shows, and in which form its answer is wanted.

use std::path::PathBuf;

use clap::ValueEnum;
use http::Method;
use secrecy::SecretString;
use serde_json::Value;

use super::client::{Answer, Call, Client, ClientError};
use super::{Exit, Failure, say, table};
use crate::config::secret_file;
use crate::domain::id::OrganizationId;

/// What every command that talks to the server takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub(super) struct Remote {
    /// The server's address, or KIKET_URL
    #[arg(
        long,
        value_name = "URL",
        env = "KIKET_URL",
        global = true,
        default_value = "http://127.0.0.1:8081"
    )]
    url: String,
    /// A file with the API token, or KIKET_TOKEN_FILE; else the token is KIKET_TOKEN
    #[arg(long, value_name = "FILE", env = "KIKET_TOKEN_FILE", hide_env = true, global = true)]
    token_file: Option<PathBuf>,
    /// Certificate authorities (PEM) beside the system's, or KIKET_CA_FILE
    #[arg(long, value_name = "FILE", env = "KIKET_CA_FILE", hide_env = true, global = true)]
    ca_file: Option<PathBuf>,
    /// The organization, or KIKET_ORGANIZATION, where the token is not bound to one
    #[arg(long, value_name = "ID", env = "KIKET_ORGANIZATION", hide_env = true, global = true, value_parser = organization)]
    pub(super) organization: Option<String>,
    /// A table to read, or the API's JSON
    #[arg(long, short, value_name = "table|json", value_enum, global = true, default_value_t = Form::Table,
        hide_possible_values = true, hide_default_value = true)]
    pub(super) output: Form,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// Columns for people.
    Table,
    /// The API's objects.
    Json,
}

impl Remote {
    /// A client with the token.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.url, self.token()?, self.ca_file.as_deref())?)
    }

    fn token(&self) -> Result<SecretString, Failure> {
        if let Some(file) = &self.token_file {
            let named = |error| Failure::usage(format!("--token-file {}: {error}", file.display()));
            return secret_file(file).map_err(named);
        }
        let token = std::env::var("KIKET_TOKEN").unwrap_or_default();
        let token = token.trim();
        if token.is_empty() {
            let reason = "no token: put it into a file that only you can read and name it with --token-file, \
                          or set KIKET_TOKEN";
            return Err(Failure::usage(reason));
        }
        Ok(SecretString::from(token))
    }

    /// Prints the API's object, or what `render` makes of it.
    pub(super) fn show(&self, document: &Value, render: impl FnOnce(&Value) -> String) -> Exit {
        match self.output {
            Form::Json => say(&json(document)),
            Form::Table => say(&render(document)),
        }
    }

    /// Prints a list as the API has it, or as a table.
    pub(super) fn show_rows(&self, rows: Vec<Value>, columns: &[table::Column], nothing: &str) -> Exit {
        match self.output {
            Form::Json => say(&json(&serde_json::json!({ "data": rows, "next_cursor": null }))),
            Form::Table if rows.is_empty() => say(&format!("{nothing}\n")),
            Form::Table => say(&table::of(columns, &rows)),
        }
    }

    /// A read of one object.
    pub(super) fn read(&self, client: &Client, path: &[&str]) -> Result<Answer, ClientError> {
        client.call(Call::new(Method::GET, path).with("organization_id", self.organization.as_ref()))
    }
}

/// JSON as it is printed: indented, members sorted, so that two outputs can be compared.
pub(super) fn json(document: &Value) -> String {
    format!("{document:#}\n")
}

pub(super) fn organization(text: &str) -> Result<String, String> {
    let parsed = OrganizationId::parse(text).map_err(|error| error.to_string())?;
    Ok(parsed.to_string())
}
