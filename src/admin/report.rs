//! `/extensions/secrets/report`: the rotation report as JSON or CSV, streamed page by page.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::ApiError;
use super::page::Params;
use super::place::organization;
use super::wire::{ProblemDocument, ReportObject, ReportRow, ReportTotals};
use crate::audit::PolicyIsAuthentic;
use crate::registry::policy_is_authentic;
use crate::secrets::report::{Report, ReportLine, Totals};
use crate::store::{StoreError, Tenancy};

/// What to report.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReportParams {
    /// `json` or `csv`.
    #[param(pattern = "^(json|csv)$")]
    format: Option<String>,
    /// Of this organization only.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    organization_id: Option<String>,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

/// The columns of the CSV: the fields of [`ReportRow`].
const COLUMNS: &str = "organization_id,key,scope,scope_id,source,version,rotation_count,created_at,last_rotated_at,\
                       age_days,max_age_days,overdue,expires_at,owner,written_by\r\n";

#[utoipa::path(get, path = "/extensions/secrets/report", operation_id = "report_rotations",
    params(ReportParams), security(("token" = [])), responses(
    (status = 200, description = "The report", content((ReportObject = "application/json"), (String = "text/csv"))),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn report(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<ReportParams>,
) -> Result<Response, ApiError> {
    caller.must_read()?;
    let format = match params.format.as_deref() {
        None | Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        Some(_) => return Err(ApiError::field("format", "format is json or csv")),
    };
    let tenancy = caller.tenancy(params.organization_id.as_deref().map(organization).transpose()?)?;
    let organization_id = match &tenancy {
        Tenancy::Platform => None,
        Tenancy::Organization(organization) => Some(organization.to_string()),
    };
    let store = std::sync::Arc::clone(&control.store);
    let keyring = Arc::clone(&control.keyring);
    let is_authentic: PolicyIsAuthentic = Arc::new(move |row| policy_is_authentic(&keyring, row));
    let mut report = Report::begin(store, is_authentic, &control.clock, &caller.asker(), tenancy).await?;
    let head = head(format, &report.at.to_rfc3339(), organization_id.as_deref());
    let first = report.next().await?; // a store that is away is told by the status
    let writing = Writing {
        report,
        format,
        totals: Totals::default(),
        rows: 0,
        next: Some(first),
        head: Some(head),
    };
    let (media_type, disposition) = match format {
        Format::Json => ("application/json", "inline"),
        Format::Csv => (
            "text/csv; charset=utf-8; header=present",
            "attachment; filename=\"rotation-report.csv\"",
        ),
    };
    let headers = [(CONTENT_TYPE, media_type), (CONTENT_DISPOSITION, disposition)];
    let body = Body::from_stream(stream::try_unfold(Some(writing), Writing::step));
    Ok((headers, body).into_response())
}

/// A report being written.
struct Writing {
    report: Report,
    format: Format,
    totals: Totals,
    rows: u64,
    /// The lines that come next, where they were read already.
    next: Option<Vec<ReportLine>>,
    head: Option<String>,
}

impl Writing {
    /// One page, or the end. An answer that breaks off in the middle is seen as such by its client.
    async fn step(writing: Option<Self>) -> Result<Option<(Bytes, Option<Self>)>, StoreError> {
        let Some(mut writing) = writing else { return Ok(None) };
        let mut text = writing.head.take().unwrap_or_default();
        let lines = match writing.next.take() {
            Some(lines) => lines,
            None => writing.report.next().await?,
        };
        if lines.is_empty() {
            text.push_str(&writing.foot());
            return Ok(Some((text.into(), None)));
        }
        for line in &lines {
            writing.totals.add(line);
            let row = ReportRow::from(line);
            match writing.format {
                Format::Json => {
                    if writing.rows > 0 {
                        text.push(',');
                    }
                    text.push_str(&serde_json::to_string(&row).unwrap_or_default()); // texts always serialize
                }
                Format::Csv => text.push_str(&csv(&row)),
            }
            writing.rows = writing.rows.saturating_add(1);
        }
        Ok(Some((text.into(), Some(writing))))
    }

    fn foot(&self) -> String {
        match self.format {
            Format::Csv => String::new(),
            Format::Json => {
                let totals = serde_json::to_string(&ReportTotals::from(self.totals)).unwrap_or_default();
                format!("],\"totals\":{totals}}}")
            }
        }
    }
}

/// What comes before the first row. The members are those of [`ReportObject`].
fn head(format: Format, generated_at: &str, organization_id: Option<&str>) -> String {
    match format {
        Format::Csv => COLUMNS.to_owned(),
        Format::Json => {
            let organization_id = serde_json::to_string(&organization_id).unwrap_or_default();
            format!("{{\"generated_at\":\"{generated_at}\",\"organization_id\":{organization_id},\"data\":[")
        }
    }
}

/// A row of CSV (RFC 4180).
fn csv(row: &ReportRow) -> String {
    let count = |number: u64| number.to_string();
    let cells = [
        row.organization_id.clone().unwrap_or_default(),
        row.key.clone(),
        row.scope.to_owned(),
        row.scope_id.clone(),
        row.source.to_owned(),
        count(row.version),
        count(row.rotation_count),
        row.created_at.clone(),
        row.last_rotated_at.clone().unwrap_or_default(),
        row.age_days.map(count).unwrap_or_default(),
        row.max_age_days.to_string(),
        row.overdue.to_string(),
        row.expires_at.clone().unwrap_or_default(),
        row.owner.clone().unwrap_or_default(),
        row.written_by.clone(),
    ];
    let mut text = String::new();
    for (n, cell) in cells.iter().enumerate() {
        let separator = if n == 0 { "" } else { "," };
        let _ = write!(text, "{separator}{}", quoted(cell)); // a string takes everything
    }
    text + "\r\n"
}

/// A cell. What a spreadsheet would take for a formula begins with an apostrophe, so that it is text.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if is_formula {
        format!("'{cell}")
    } else {
        cell.to_owned()
    };
    if cell.contains([',', '"', '\r', '\n']) || is_formula {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn cells_are_quoted_as_needed_and_none_is_a_formula() {
        for (cell, written) in [
            ("", ""),
            ("plain text", "plain text"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("a=b", "a=b"),
        ] {
            assert_eq!(quoted(cell), written, "{cell:?}");
        }
    }
}
