//! How a setting's text is read: each parser says what it expects, never what it found.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::filter::Targets;
use url::{Host, Url};

use crate::domain::destination::Destination;
use crate::domain::share::Share;

/// Where to accept connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this host can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How `X-Kiket-Signature` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignaturePrefix {
    /// `<hex>`
    Bare,
    /// `sha256=<hex>`
    Sha256,
}

/// What becomes of an answer that gives a value back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EchoPolicy {
    /// The value is replaced.
    Redact,
    /// The answer is not passed on.
    Block,
    /// It is passed on.
    Off,
}

/// Which planes a process serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Both.
    All,
    /// Deliveries; writes nothing but audit entries, counts, and alerts that reading brings about.
    Proxy,
    /// The REST API, and everything that tells somebody.
    Admin,
}

impl Role {
    const ALL: [Self; 3] = [Self::All, Self::Proxy, Self::Admin];

    /// The word in settings and health.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Proxy => "proxy",
            Self::Admin => "admin",
        }
    }

    /// Whether it takes deliveries.
    #[must_use]
    pub const fn delivers(self) -> bool {
        matches!(self, Self::All | Self::Proxy)
    }

    /// Whether it serves the REST API, keeps the audit log whole and tells whoever has to be told.
    #[must_use]
    pub const fn administers(self) -> bool {
        matches!(self, Self::All | Self::Admin)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Where mail is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpUrl {
    /// The server.
    pub host: Host<String>,
    /// Its port.
    pub port: u16,
    /// Whether TLS begins at once; else it begins with STARTTLS.
    pub is_implicit_tls: bool,
}

impl SmtpUrl {
    /// Whether the server is on this host, so that nothing of the mail crosses a network on the way there.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }
}

type Parsed<T> = Result<T, &'static str>;

pub(super) fn listeners(text: &str) -> Parsed<Vec<Listen>> {
    let one = |item: &str| match item.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Some(Listen::Unix(path.into())),
        Some(_) => None,
        None => item.parse().ok().map(Listen::Tcp),
    };
    let all: Option<Vec<Listen>> = items(text).map(one).collect();
    all.filter(|listeners| !listeners.is_empty())
        .ok_or("`address:port` or `unix:/path`, several separated by commas, for example `127.0.0.1:8080`")
}

pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| "`address:port`, for example `127.0.0.1:8081`")
}

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.contains('\0') {
        Err("a path")
    } else {
        Ok(text.into())
    }
}

pub(super) fn database_url(text: &str) -> Parsed<String> {
    let is_server = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if text.starts_with("sqlite:") || (is_server && Url::parse(text).is_ok()) {
        Ok(text.into())
    } else {
        Err("a URL, for example `sqlite:/var/lib/kiket/kiket.db` or `postgres://kiket@db.example.com/kiket`")
    }
}

pub(super) fn cidrs(text: &str) -> Parsed<Vec<IpNet>> {
    items(text)
        .map(|item| {
            item.parse()
                .map_err(|_| "CIDRs separated by commas, for example `10.1.0.0/16,fd00::/64`")
        })
        .collect()
}

pub(super) fn flag(text: &str) -> Parsed<bool> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err("`true` or `false`"),
    }
}

pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let parsed = || {
        let (number, unit) = split_unit(text)?;
        let millis_per_unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let millis = number.checked_mul(millis_per_unit)?;
        (1..=31 * 24 * 3_600_000)
            .contains(&millis)
            .then(|| Duration::from_millis(millis))
    };
    parsed().ok_or("a duration from 1ms to 744h, for example `500ms`, `30s`, `15m` or `1h`")
}

pub(super) fn bytes(text: &str) -> Parsed<usize> {
    let parsed = || {
        let (number, unit) = split_unit(text)?;
        let bytes_per_unit = match unit {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        let bytes = number.checked_mul(bytes_per_unit)?;
        usize::try_from(bytes)
            .ok()
            .filter(|bytes| (1..=1 << 40).contains(bytes))
    };
    parsed().ok_or("a size of at least one byte, for example `65536`, `64KiB` or `8MiB`")
}

pub(super) fn count(text: &str) -> Parsed<usize> {
    text.parse()
        .ok()
        .filter(|count| (1..=1_000_000).contains(count))
        .ok_or("a number from 1 to 1000000")
}

pub(super) fn one_in(text: &str) -> Parsed<u64> {
    text.parse()
        .ok()
        .filter(|count| *count <= 1_000_000)
        .ok_or("a number from 0 to 1000000")
}

pub(super) fn share(text: &str) -> Parsed<Share> {
    text.parse()
        .ok()
        .and_then(Share::percent)
        .ok_or("a number of hundredths from 1 to 100")
}

pub(super) fn destination(text: &str) -> Parsed<Destination> {
    Destination::parse(text).map_err(|_| "a URL without user name, query and fragment, for example `https://host`")
}

pub(super) fn smtp_url(text: &str) -> Parsed<SmtpUrl> {
    let parsed = || {
        // Only with a scheme that the URL standard knows is a host read as one.
        let (scheme, rest) = text.split_once("://")?;
        let is_implicit_tls = match scheme {
            "smtps" => true,
            "smtp" => false,
            _ => return None,
        };
        let url = Url::parse(&format!("https://{rest}")).ok()?;
        let has_excess = !url.username().is_empty()
            || url.password().is_some()
            || url.path() != "/"
            || url.query().is_some()
            || url.fragment().is_some();
        let default = if is_implicit_tls { 465 } else { 587 };
        let authority = rest.trim_end_matches('/');
        (!has_excess).then_some(SmtpUrl {
            host: url.host()?.to_owned(),
            // The port that `https` has is left out of a URL that was read as one.
            port: url
                .port()
                .unwrap_or(if authority.ends_with(":443") { 443 } else { default }),
            is_implicit_tls,
        })
    };
    parsed().ok_or("`smtps://host` or `smtp://host`, with a port where it is another, without a user name")
}

pub(super) fn issuer(name: &str) -> Parsed<String> {
    if name.is_empty() || name.contains(char::is_control) {
        Err("a name of one line, for example `kiket.dev`")
    } else {
        Ok(name.to_owned())
    }
}

pub(super) fn text(text: &str) -> Parsed<String> {
    if text.contains(char::is_control) {
        Err("a text of one line")
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn workers(text: &str) -> Parsed<usize> {
    text.parse()
        .ok()
        .filter(|count| (1..=256).contains(count))
        .ok_or("a number from 1 to 256")
}

pub(super) fn signature_prefix(text: &str) -> Parsed<SignaturePrefix> {
    match text {
        "bare" => Ok(SignaturePrefix::Bare),
        "sha256=" | "sha256" => Ok(SignaturePrefix::Sha256),
        _ => Err("`bare` or `sha256=`"),
    }
}

pub(super) fn log_filter(text: &str) -> Parsed<String> {
    let parsed = text.parse::<Targets>().map(|_| text.to_owned());
    parsed.map_err(|_| "a level (`info`) or levels by module (`info,kiket_sidecar=debug`)")
}

pub(super) fn echo_policy(text: &str) -> Parsed<EchoPolicy> {
    match text {
        "redact" => Ok(EchoPolicy::Redact),
        "block" => Ok(EchoPolicy::Block),
        "off" => Ok(EchoPolicy::Off),
        _ => Err("`redact`, `block` or `off`"),
    }
}

pub(super) fn role(text: &str) -> Parsed<Role> {
    let named = Role::ALL.into_iter().find(|role| role.name() == text);
    named.ok_or("`all`, `proxy` or `admin`")
}

pub(super) fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("`json` or `text`"),
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_hold_both_sides_of_their_limits() {
        assert_eq!(duration("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(duration("744h"), Ok(Duration::from_secs(744 * 3600)));
        for bad in [
            "",
            "0s",
            "745h",
            "5",
            "s",
            "-1s",
            "1 day",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(bytes("8MiB"), Ok(8 << 20));
        assert_eq!(bytes("1"), Ok(1));
        for bad in ["", "0", "1MB", "2000GiB", "MiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_are_separated_by_commas_and_only_cidrs_may_be_none() {
        assert_eq!(cidrs("").unwrap(), []);
        assert_eq!(cidrs("10.0.0.0/8, ::1/128").unwrap().len(), 2);
        assert!(cidrs("10.0.0.0/33").is_err());
        assert!(listeners("").is_err() && listeners("unix:relative").is_err() && listeners("localhost").is_err());
        assert_eq!(listeners("unix:/a,127.0.0.1:0").unwrap().len(), 2);
    }

    #[test]
    fn one_in_so_many_may_be_none() {
        assert_eq!(
            [one_in("0"), one_in("1"), one_in("1000000")],
            [Ok(0), Ok(1), Ok(1_000_000)]
        );
        for bad in ["", "1000001", "-1", "0.5", "1/10"] {
            assert!(one_in(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_share_is_a_number_of_hundredths() {
        assert_eq!(share("1"), Ok(Share::percent(1).unwrap()));
        assert_eq!(share("100"), Ok(Share::percent(100).unwrap()));
        for bad in ["", "0", "101", "257", "80%", "-1", "0.8"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_destination_is_a_url_of_a_host_and_nothing_else() {
        let parsed = |text: &str| destination(text).map(|to| (to.origin().to_string(), to.path_prefix));
        let google = ("https://secretmanager.googleapis.com:443".into(), String::new());
        assert_eq!(parsed("https://secretmanager.googleapis.com"), Ok(google));
        let other = ("http://127.0.0.1:8081".into(), "/google".into());
        assert_eq!(parsed("http://127.0.0.1:8081/google/"), Ok(other));
        for bad in [
            "",
            "metadata.google.internal",
            "ftp://host",
            "http://u:p@host",
            "http://host?x",
        ] {
            assert!(destination(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mail_server_is_named_with_its_kind_of_tls() {
        let parsed = |text: &str| {
            smtp_url(text).map(|url| (url.host.to_string(), url.port, url.is_implicit_tls, url.is_local()))
        };
        assert_eq!(
            parsed("smtps://mail.example.com"),
            Ok(("mail.example.com".into(), 465, true, false))
        );
        assert_eq!(
            parsed("smtp://mail.example.com:25/"),
            Ok(("mail.example.com".into(), 25, false, false))
        );
        assert_eq!(parsed("smtp://127.0.0.1"), Ok(("127.0.0.1".into(), 587, false, true)));
        assert_eq!(
            parsed("smtp://localhost:443"),
            Ok(("localhost".into(), 443, false, true))
        );
        for bad in [
            "",
            "mail.example.com",
            "http://mail.example.com",
            "smtp://",
            "smtp://u:p@host",
            "smtp://host/path",
            "smtp://host?x",
        ] {
            assert!(smtp_url(bad).is_err(), "{bad}");
        }
    }
}
