//! How mail is handed to the operator's mail server.
//!
//! The server is named by the operator, not by a tenant, so it may be inside; what goes to it is encrypted unless it is
//! on this host.

use std::time::{Duration, SystemTime};

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};

use crate::config::SmtpUrl;
use crate::domain::time::Timestamp;

/// The longest that handing over one mail may take, for each step of it.
const STEP_WAIT: Duration = Duration::from_secs(10);

/// What mail is sent with.
pub struct MailSettings<'a> {
    /// The server.
    pub url: &'a SmtpUrl,
    /// The sender, with or without a name.
    pub from: &'a str,
    /// `user:password`.
    pub credentials: Option<&'a SecretString>,
    /// PEM of authorities to trust beside the system's.
    pub authorities: Option<&'a [u8]>,
}

/// Why no mail can be sent at all. An operator has to change a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailSettingsError {
    /// The sender is none.
    #[error("smtp_from is no sender, for example `Kiket <kiket@example.com>`")]
    From,
    /// The credentials are none.
    #[error("smtp_credentials_file must hold `user:password`")]
    Credentials,
    /// There is no TLS to be had with these roots.
    #[error("egress_ca_file cannot be used for mail")]
    Tls,
}

/// Why a mail was not taken. Carries nothing of the server's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The address or text makes no mail.
    #[error("the mail cannot be written")]
    Unwritable,
    /// The server could not be spoken to, or not now. Retry later.
    #[error("the mail server did not take the mail")]
    Unreachable,
    /// The server refused it. Retrying may help once somebody changed something there.
    #[error("the mail server refused the mail")]
    Refused,
}

/// A mail to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The same at every attempt, so that a receiver can tell.
    pub id: String,
    /// To whom.
    pub to: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// When it was written.
    pub at: Timestamp,
}

/// Hands mail over.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// A mailer over these settings. Connects to nobody yet.
    ///
    /// # Errors
    /// [`MailSettingsError`].
    pub fn new(settings: &MailSettings<'_>) -> Result<Self, MailSettingsError> {
        let from = settings.from.parse().map_err(|_| MailSettingsError::From)?;
        let url = settings.url;
        let host = url.host.to_string();
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match encryption(url) {
            Encryption::None => Tls::None,
            Encryption::FromTheStart => Tls::Wrapper(parameters(name.clone(), settings.authorities)?),
            Encryption::AfterStartTls => Tls::Required(parameters(name.clone(), settings.authorities)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(name)
            .port(url.port)
            .tls(tls)
            .timeout(Some(STEP_WAIT));
        if let Some(credentials) = settings.credentials {
            let (user, password) = credentials
                .expose_secret()
                .split_once(':')
                .ok_or(MailSettingsError::Credentials)?;
            builder = builder.credentials(Credentials::new(user.to_owned(), password.to_owned()));
        }
        Ok(Self {
            transport: builder.build(),
            from,
        })
    }

    /// Hands one mail over.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let message = self.message(mail).ok_or(MailError::Unwritable)?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(MailError::Refused),
            Err(_) => Err(MailError::Unreachable),
        }
    }

    fn message(&self, mail: &Mail) -> Option<Message> {
        let to: Address = mail.to.parse().ok()?;
        let domain = self.from.email.domain();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(mail.at.0);
        MessageBuilder::new()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .date(at)
            .message_id(Some(format!("<{}@{domain}>", mail.id)))
            .subject(mail.subject.clone())
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone())
            .ok()
    }
}

/// When the conversation with a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    /// Never: it does not leave this host.
    None,
    /// From the first byte.
    FromTheStart,
    /// Before any mail is handed over, or none is.
    AfterStartTls,
}

fn encryption(url: &SmtpUrl) -> Encryption {
    if url.is_implicit_tls {
        Encryption::FromTheStart
    } else if url.is_local() {
        Encryption::None
    } else {
        Encryption::AfterStartTls
    }
}

fn parameters(name: String, authorities: Option<&[u8]>) -> Result<TlsParameters, MailSettingsError> {
    let mut builder = TlsParameters::builder(name);
    if let Some(pem) = authorities {
        let authorities = Certificate::from_pem(pem).map_err(|_| MailSettingsError::Tls)?;
        builder = builder.add_root_certificate(authorities);
    }
    builder.build_rustls().map_err(|_| MailSettingsError::Tls)
}

#[cfg(test)]
mod tests {
    use url::Host;

    use super::*;

    #[test]
    fn only_a_server_on_this_host_is_spoken_to_in_the_clear() {
        let of = |host: &str, is_implicit_tls| {
            let host = Host::parse(host).unwrap_or_else(|_| Host::Domain(host.into()));
            let port = 25;
            encryption(&SmtpUrl {
                host,
                port,
                is_implicit_tls,
            })
        };
        for local in ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"] {
            assert_eq!(of(local, false), Encryption::None, "{local}");
            assert_eq!(of(local, true), Encryption::FromTheStart, "{local}");
        }
        for remote in ["mail.example.com", "localhost.example.com", "10.0.0.1", "[fd00::1]"] {
            assert_eq!(of(remote, false), Encryption::AfterStartTls, "{remote}");
            assert_eq!(of(remote, true), Encryption::FromTheStart, "{remote}");
        }
    }
}
