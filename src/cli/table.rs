//! How answers look to people: aligned columns with headings, and nothing that could move a terminal's cursor.

use serde_json::Value;

use super::moment;
use crate::domain::time::Timestamp;

/// One column: its heading, and what a row shows in it.
pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) cell: Box<dyn Fn(&Value) -> String>,
}

/// Between columns.
const GAP: &str = "  ";
/// For what is not there.
pub(super) const ABSENT: &str = "-";

/// A column that shows a member.
pub(super) fn member(heading: &'static str, name: &'static str) -> Column {
    column(heading, move |row| text(row, name))
}

/// A column that shows how long ago a moment was.
pub(super) fn age(heading: &'static str, name: &'static str, now: Timestamp) -> Column {
    column(heading, move |row| {
        let at = row
            .get(name)
            .and_then(Value::as_str)
            .map(|at| moment::relative(at, now));
        at.unwrap_or_else(|| ABSENT.to_owned())
    })
}

/// A column that shows a moment.
pub(super) fn moment(heading: &'static str, name: &'static str) -> Column {
    column(heading, move |row| moment_text(row, name))
}

/// A moment as text.
pub(super) fn moment_text(row: &Value, name: &str) -> String {
    let at = row.get(name).and_then(Value::as_str).map(moment::absolute);
    at.unwrap_or_else(|| ABSENT.to_owned())
}

/// A column of one's own.
pub(super) fn column(heading: &'static str, cell: impl Fn(&Value) -> String + 'static) -> Column {
    Column {
        heading,
        cell: Box::new(cell),
    }
}

/// A member as text.
pub(super) fn text(row: &Value, name: &str) -> String {
    match row.get(name) {
        None | Some(Value::Null) => ABSENT.to_owned(),
        Some(Value::String(text)) if text.is_empty() => ABSENT.to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(Value::Bool(true)) => String::from("yes"),
        Some(Value::Bool(false)) => String::from("no"),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), printable))
                .collect();
            if items.is_empty() {
                ABSENT.to_owned()
            } else {
                items.join(", ")
            }
        }
        Some(other) => other.to_string(),
    }
}

/// A text that came from elsewhere, without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| {
        let is_bidirectional = matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || is_bidirectional {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

/// Rows below their headings.
pub(super) fn of(columns: &[Column], rows: &[Value]) -> String {
    let headings = columns.iter().map(|column| column.heading.to_owned()).collect();
    let cells = rows
        .iter()
        .map(|row| columns.iter().map(|column| (column.cell)(row)).collect());
    aligned(&std::iter::once(headings).chain(cells).collect::<Vec<_>>())
}

/// Names and what they are, one per line.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> = facts
        .iter()
        .map(|(name, fact)| vec![format!("{name}:"), fact.clone()])
        .collect();
    aligned(&rows)
}

/// Lines whose cells stand below each other; nothing behind the last one.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join(GAP).trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let columns = [member("KEY", "key"), member("VERSION", "version"), member("FOR", "id")];
        let rows = [
            json!({"key": "MAILCHIMP_API_KEY", "version": 1, "id": "acme"}),
            json!({"key": "Ü", "version": null}),
        ];
        let expected = "\
KEY                VERSION  FOR
MAILCHIMP_API_KEY  1        acme
Ü                  -        -
";
        assert_eq!(of(&columns, &rows), expected);
        assert_eq!(of(&columns, &[]), "KEY  VERSION  FOR\n");
    }

    #[test]
    fn no_text_from_elsewhere_moves_the_cursor() {
        let row = json!({"label": "a\u{1b}[2Jb\r\nc\u{202e}d\te\u{9b}1m"});
        let shown = text(&row, "label");
        assert!(
            !shown.chars().any(char::is_control) && !shown.contains('\u{202e}'),
            "{shown:?}"
        );
        assert!(shown.starts_with('a') && shown.ends_with("1m"));
    }
}
