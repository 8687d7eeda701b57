//! What a database URL says: which server, as whom, and how much TLS.

use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::OpenError;

/// What may stand behind `?`, as libpq has it. The driver would log others, with their values.
const PARAMETERS: [&str; 11] = [
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// Reads a URL. TLS with a verified certificate and name unless it says otherwise; none over a Unix socket, which the
/// kernel guards.
pub(super) fn parse(url: &str) -> Result<PgConnectOptions, OpenError> {
    let parsed = Url::parse(url).map_err(|_| OpenError::Address)?;
    let stated = |name: &str| {
        parsed
            .query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    if parsed.query_pairs().any(|(key, _)| !PARAMETERS.contains(&&*key)) {
        return Err(OpenError::Address);
    }
    let mut options = PgConnectOptions::from_url(&parsed).map_err(|_| OpenError::Address)?;
    if options.get_host().is_empty() || options.get_database().is_none_or(str::is_empty) {
        return Err(OpenError::Address);
    }
    let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    let mode = match stated("sslmode") {
        _ if is_socket => PgSslMode::Disable,
        None => PgSslMode::VerifyFull,
        Some(mode) => match PgSslMode::from_str(&mode).map_err(|_| OpenError::Address)? {
            // As libpq has it: whoever names an authority wants it asked.
            PgSslMode::Require if stated("sslrootcert").is_some() => PgSslMode::VerifyCa,
            mode => mode,
        },
    };
    options = options.ssl_mode(mode);
    if stated("application_name").is_none() {
        options = options.application_name("kiket");
    }
    // What the server notices along the way is nothing that an operator has to know.
    let options = options.options([("client_min_messages", "warning")]);
    Ok(options.disable_statement_logging())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn mode(url: &str) -> &'static str {
        match parse(url).unwrap().get_ssl_mode() {
            PgSslMode::Disable => "disable",
            PgSslMode::Allow => "allow",
            PgSslMode::Prefer => "prefer",
            PgSslMode::Require => "require",
            PgSslMode::VerifyCa => "verify-ca",
            PgSslMode::VerifyFull => "verify-full",
        }
    }

    #[test]
    fn tls_is_verified_in_full_unless_the_url_says_otherwise() {
        for (url, expected) in [
            ("postgres://kiket@db.example.com/kiket", "verify-full"),
            ("postgresql://kiket:word@db.example.com:6432/kiket", "verify-full"),
            ("postgres://db/kiket?sslrootcert=/etc/ca.pem", "verify-full"),
            ("postgres://db/kiket?sslmode=verify-ca", "verify-ca"),
            ("postgres://db/kiket?sslmode=require", "require"),
            (
                "postgres://db/kiket?sslmode=require&sslrootcert=/etc/ca.pem",
                "verify-ca",
            ),
            ("postgres://db/kiket?sslmode=prefer", "prefer"),
            ("postgres://db/kiket?sslmode=disable", "disable"),
            ("postgres:///kiket?host=/run/postgresql", "disable"),
            ("postgres://%2Frun%2Fpostgresql/kiket", "disable"),
            ("postgres:///kiket?host=/run/postgresql&sslmode=verify-full", "disable"),
        ] {
            assert_eq!(mode(url), expected, "{url}");
        }
    }

    #[test]
    fn a_url_with_anything_that_is_not_known_is_refused_and_not_quoted() {
        for url in [
            "postgres://db",
            "postgres://db/",
            "postgres://db:port/kiket",
            "postgres://db/kiket?sslmode=canary",
            "postgres://db/kiket?passwrd=canary",
            "postgres://db/kiket?sslmode=disable&canary",
            "postgres://db/kiket?port=canary",
        ] {
            let refused = parse(url).unwrap_err();
            assert_eq!(refused, OpenError::Address, "{url}");
            assert!(!format!("{refused} {refused:?}").contains("canary"));
        }
    }
}
