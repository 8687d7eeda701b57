//! `/secrets/audit`: the last reads and writes, all of them as a file, and whether nobody touched them.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream::try_unfold;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::ApiError;
use super::page::{Params, cursor, page};
use super::place::organization;
use super::wire::ProblemDocument;
use super::wire::alerts::AlertObject;
use super::wire::audit::{AuditObject, AuditPage, CheckpointObject, ExportLine, VerifiedObject};
use crate::domain::audit::{Action, AuditEntry, Outcome, Source};
use crate::domain::id::OrganizationId;
use crate::domain::key::SecretKey;
use crate::domain::time::Timestamp;
use crate::store::{AuditQuery, Page, SharedStore, StoreError, Tenancy};

/// Entries of an answer where the client does not say (spec, "Access logs & anomaly alerts").
const LIMIT_DEFAULT: u32 = 200;

/// The most open alerts beside a page.
const ALERTS_MAX: u32 = 200;

/// Rows of an export that are held at a time.
const EXPORT_PAGE: u32 = 500;

/// Which entries are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Of this key only.
    key: Option<String>,
    /// Of this action only, for example `secret.rotate`.
    action: Option<String>,
    /// By this way only: `api`, `cli`, `sdk`, `delivery`, `handshake`, `signing` or `refresh`.
    source: Option<String>,
    /// By this token (its id or name) or sidecar only.
    actor: Option<String>,
    /// Not before this moment (RFC 3339).
    since: Option<String>,
    /// Before this moment (RFC 3339).
    until: Option<String>,
    /// Of this organization only.
    organization_id: Option<String>,
    /// `json` (default): one page. `csv` or `ndjson`: all entries, as a file.
    format: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of a page, 1 to 1000.
    limit: Option<u32>,
}

/// Whose chain is verified.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VerifyParams {
    /// Of this organization only.
    organization_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    Ndjson,
}

#[utoipa::path(get, path = "/secrets/audit", operation_id = "list_audit",
    params(ListParams), security(("token" = [])), responses(
    (status = 200, description = "The entries, newest first, with the open alerts; as `csv` or `ndjson`: all entries",
        content((AuditPage = "application/json"), (ExportLine = "application/x-ndjson"), (String = "text/csv"))),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Response, ApiError> {
    caller.must_read()?;
    let tenancy = caller.tenancy(params.organization_id.as_deref().map(organization).transpose()?)?;
    let query = params.query()?;
    match params.format()? {
        Format::Json => one_page(&control, &caller, &tenancy, &query, &params).await,
        Format::Csv => {
            record(&control, &caller, &tenancy, Action::AuditExport, Outcome::Ok).await?;
            let export = Export::new(&control.store, tenancy, query, Form::Csv);
            Ok(file(export, "text/csv; charset=utf-8; header=present", "audit.csv"))
        }
        Format::Ndjson => {
            record(&control, &caller, &tenancy, Action::AuditExport, Outcome::Ok).await?;
            let chains = if query == AuditQuery::default() {
                signed(&control, &tenancy).await?
            } else {
                Vec::new() // what has gaps cannot be held against a signed head
            };
            let export = Export::new(&control.store, tenancy, query, Form::Ndjson(chains));
            Ok(file(export, "application/x-ndjson", "audit.ndjson"))
        }
    }
}

#[utoipa::path(get, path = "/secrets/audit/verify", operation_id = "verify_audit",
    params(VerifyParams), security(("token" = [])), responses(
    (status = 200, description = "What was found of each chain; of an operator: of all", body = VerifiedObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn verify(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<VerifyParams>,
) -> Result<Json<VerifiedObject>, ApiError> {
    caller.must_read()?;
    let tenancy = caller.tenancy(params.organization_id.as_deref().map(organization).transpose()?)?;
    let verifier = control.recorder.verifier();
    let reports = match &tenancy {
        Tenancy::Platform => verifier.verify_all(&control.store).await?,
        Tenancy::Organization(organization) => vec![verifier.verify(&control.store, Some(organization)).await?],
    };
    let mut outcome = Outcome::Ok;
    for report in reports.iter() {
        if let Some(finding) = report.finding {
            outcome = Outcome::Failed;
            let organization_id = report.organization.as_ref().map(OrganizationId::as_str);
            tracing::error!(
                organization_id,
                finding = finding.name(),
                sequence = finding.sequence(),
                "the audit log is broken"
            );
        }
    }
    record(&control, &caller, &tenancy, Action::AuditVerify, outcome).await?;
    Ok(Json(VerifiedObject::new(&reports, verifier.public_key())))
}

impl ListParams {
    fn query(&self) -> Result<AuditQuery, ApiError> {
        let key = self.key.as_deref().map(SecretKey::parse).transpose();
        let unknown = |field, what: &'static str| move |()| ApiError::field(field, what);
        Ok(AuditQuery {
            key: key.map_err(|error| ApiError::field("key", error))?,
            action: word(self.action.as_deref(), Action::parse)
                .map_err(unknown("action", "there is no such action"))?,
            source: word(self.source.as_deref(), Source::parse)
                .map_err(unknown("source", "there is no such source"))?,
            actor: self.actor.clone(),
            since: moment("since", self.since.as_deref())?,
            until: moment("until", self.until.as_deref())?,
        })
    }

    fn format(&self) -> Result<Format, ApiError> {
        let format = match self.format.as_deref() {
            None | Some("json") => return Ok(Format::Json),
            Some("csv") => Format::Csv,
            Some("ndjson") => Format::Ndjson,
            Some(_) => return Err(ApiError::field("format", "format is json, csv or ndjson")),
        };
        for (field, is_given) in [("cursor", self.cursor.is_some()), ("limit", self.limit.is_some())] {
            if is_given {
                return Err(ApiError::field(
                    field,
                    "csv and ndjson have all entries: only json has pages",
                ));
            }
        }
        Ok(format)
    }
}

fn word<T>(text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ()> {
    text.map(|text| parse(text).ok_or(())).transpose()
}

fn moment(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let parsed = OffsetDateTime::parse(text, &Rfc3339).ok();
    let millis = parsed.and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
    let refused = || {
        ApiError::field(
            field,
            "a moment as in RFC 3339 is expected, for example 2026-01-31T12:00:00Z",
        )
    };
    millis.map(|millis| Some(Timestamp(millis))).ok_or_else(refused)
}

async fn one_page(
    control: &Control,
    caller: &Caller,
    tenancy: &Tenancy,
    query: &AuditQuery,
    params: &ListParams,
) -> Result<Response, ApiError> {
    let limit = params.limit.or(Some(LIMIT_DEFAULT));
    let page = page(&control.keyring, params.cursor.as_deref(), limit)?;
    let listed = control.store.audit(tenancy, query, &page).await?;
    let newest = Page {
        after: None,
        limit: ALERTS_MAX,
    };
    let alerts = control.store.alerts(tenancy, true, &newest).await?;
    record(control, caller, tenancy, Action::AuditExport, Outcome::Ok).await?;
    let page = AuditPage {
        data: listed.rows.iter().map(AuditObject::from).collect(),
        next_cursor: cursor(&control.keyring, listed.next),
        alerts: alerts.rows.iter().map(AlertObject::from).collect(),
    };
    Ok(Json(page).into_response())
}

/// Who looks at the log stands in it. What cannot be recorded is not shown.
async fn record(
    control: &Control,
    caller: &Caller,
    tenancy: &Tenancy,
    action: Action,
    outcome: Outcome,
) -> Result<(), StoreError> {
    let organization = match tenancy {
        Tenancy::Platform => None,
        Tenancy::Organization(organization) => Some(organization.clone()),
    };
    let entry = AuditEntry {
        outcome,
        ..caller.asker().entry(organization, control.clock.now(), action)
    };
    control.store.record(vec![entry]).await
}

/// Signs what is about to be exported, so that the file proves itself up to its newest entries, and names the chains.
async fn signed(control: &Control, tenancy: &Tenancy) -> Result<Vec<Option<OrganizationId>>, StoreError> {
    let now = control.clock.now();
    match tenancy {
        Tenancy::Platform => {
            control.recorder.checkpoint(now).await?;
            control.store.chains().await
        }
        Tenancy::Organization(organization) => {
            control.recorder.checkpoint_one(Some(organization), now).await?;
            Ok(vec![Some(organization.clone())])
        }
    }
}

/// How a file looks.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    Csv,
    /// With the checkpoints of these chains before the entries.
    Ndjson(Vec<Option<OrganizationId>>),
}

/// A file under way: one page of it is held, and the next one is read when the client has taken that.
struct Export {
    store: SharedStore,
    tenancy: Tenancy,
    query: AuditQuery,
    form: Form,
    next: Next,
}

enum Next {
    Head,
    /// Of the last chain that is left, from a position on.
    Checkpoints(u64),
    Entries(Option<u64>),
    End,
}

impl Export {
    fn new(store: &SharedStore, tenancy: Tenancy, query: AuditQuery, form: Form) -> Self {
        Self {
            store: SharedStore::clone(store),
            tenancy,
            query,
            form,
            next: Next::Head,
        }
    }

    /// The next part; `None` at the end.
    async fn part(&mut self) -> Result<Option<String>, StoreError> {
        match self.next {
            Next::End => Ok(None),
            Next::Head if self.form == Form::Csv => {
                self.next = Next::Entries(None);
                Ok(Some(AuditObject::CSV_HEAD.into()))
            }
            Next::Head => {
                self.next = Next::Checkpoints(0);
                Ok(Some(String::new()))
            }
            Next::Checkpoints(from) => self.checkpoints(from).await.map(Some),
            Next::Entries(after) => self.entries(after).await.map(Some),
        }
    }

    async fn checkpoints(&mut self, from: u64) -> Result<String, StoreError> {
        let Form::Ndjson(chains) = &mut self.form else {
            return Ok(String::new());
        };
        let Some(chain) = chains.last() else {
            self.next = Next::Entries(None);
            return Ok(String::new());
        };
        let rows = self.store.checkpoints(chain.as_ref(), from, EXPORT_PAGE).await?;
        let last = rows.last().map(|row| row.checkpoint.sequence);
        self.next = match last {
            Some(last) if rows.len() == EXPORT_PAGE as usize => Next::Checkpoints(last.saturating_add(1)),
            _ => {
                chains.pop();
                Next::Checkpoints(0)
            }
        };
        Ok(lines(
            rows.iter()
                .map(|row| ExportLine::Checkpoint(CheckpointObject::from(row))),
        ))
    }

    async fn entries(&mut self, after: Option<u64>) -> Result<String, StoreError> {
        let page = Page {
            after,
            limit: EXPORT_PAGE,
        };
        let listed = self.store.audit(&self.tenancy, &self.query, &page).await?;
        self.next = listed.next.map_or(Next::End, |next| Next::Entries(Some(next)));
        let objects = listed.rows.iter().map(AuditObject::from);
        Ok(match self.form {
            Form::Csv => objects.map(|object| object.csv_line()).collect(),
            Form::Ndjson(_) => lines(objects.map(ExportLine::Entry)),
        })
    }
}

fn lines(lines: impl Iterator<Item = ExportLine>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(&line).unwrap_or_default()); // texts and numbers always serialize
        text.push('\n');
    }
    text
}

/// A store that fails halfway breaks the answer off, so that nobody takes the part for the whole.
fn file(export: Export, content_type: &'static str, name: &'static str) -> Response {
    let parts = try_unfold(export, async |mut export| {
        let part = export.part().await.inspect_err(|error| {
            tracing::warn!(%error, "an export of the audit log broke off");
        })?;
        Ok::<_, StoreError>(part.map(|part| (Bytes::from(part), export)))
    });
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (CONTENT_TYPE, content_type.to_owned()),
        (CONTENT_DISPOSITION, disposition),
    ];
    (headers, Body::from_stream(parts)).into_response()
}
