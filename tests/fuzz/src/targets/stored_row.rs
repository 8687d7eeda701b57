//! Whether a stored row, whatever stands in its columns, reads back as it stands there or is damaged.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::input::Input;
use error::StoreError;
use keks::{InstanceRow, KekRow, KeyWrite};
use records::{
    ChainHead, CheckpointRow, ExtensionRow, InstallationRow, LinkedEntry, OutboxRow, PolicyRow, Predecessor,
    ProviderRow, RequestRow, Role, SecretRow, TokenRow,
};
use row::Columns;

#[path = "stored_row/columns.rs"]
mod columns;

#[allow(dead_code, reason = "nothing is written here")]
#[path = "../../../../src/store/error.rs"]
mod error;
#[allow(dead_code, reason = "nothing is written here")]
#[path = "../../../../src/store/keks.rs"]
mod keks;
#[allow(dead_code, reason = "nothing is written here")]
#[path = "../../../../src/store/records.rs"]
mod records;
#[allow(dead_code, reason = "nothing is written here")]
#[path = "../../../../src/store/row.rs"]
mod row;

/// What stands in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cell {
    Null,
    Text(String),
    Bytes(Vec<u8>),
    Number(i64),
}

/// Texts that stand in rows.
const WORDS: [&str; 34] = [
    "",
    "acme",
    "com.example.mailchimp",
    "TOKEN",
    "extension_installation",
    "installation",
    "product_installation",
    "product",
    "extension",
    "project",
    "organization",
    "value",
    "reference",
    "placeholder",
    "tombstone",
    "pending",
    "enabled",
    "disabled",
    "platform_operator",
    "org_admin",
    "auditor",
    "dispatcher",
    "secret.rotate",
    "secret.delivered",
    "api",
    "delivery",
    "ok",
    "refused",
    "read-anomaly",
    "main",
    "secret",
    "tokens",
    "providers",
    "keys",
];

const NUMBERS: [i64; 8] = [0, 1, -1, 2, i64::MAX, i64::MIN, u32::MAX as i64, u32::MAX as i64 + 1];

/// A row that an input fills, column by column, as they are asked for. Asked twice, a column says the same.
struct Fed<'a> {
    input: RefCell<Input<'a>>,
    cells: RefCell<BTreeMap<&'static str, Cell>>,
}

impl<'a> Fed<'a> {
    fn new(input: Input<'a>) -> Self {
        Self {
            input: RefCell::new(input),
            cells: RefCell::default(),
        }
    }

    fn cell(&self, column: &'static str, draw: fn(&mut Input<'_>) -> Cell) -> Cell {
        let mut cells = self.cells.borrow_mut();
        cells
            .entry(column)
            .or_insert_with(|| draw(&mut self.input.borrow_mut()))
            .clone()
    }

    /// Every column that was asked for, as it stands in the row.
    fn asked(self) -> BTreeMap<&'static str, Cell> {
        self.cells.into_inner()
    }
}

fn text(input: &mut Input<'_>) -> Cell {
    let choice = usize::from(input.byte());
    let word = WORDS.get(choice).map(|word| (*word).to_owned());
    Cell::Text(word.unwrap_or_else(|| String::from_utf8_lossy(input.take(choice - WORDS.len())).into_owned()))
}

fn bytes(input: &mut Input<'_>) -> Cell {
    let length = input.byte();
    // A hash, more often than chance would have it.
    let length = if length.is_multiple_of(4) {
        32
    } else {
        usize::from(length / 4)
    };
    let mut bytes = input.take(length).to_vec();
    bytes.resize(length, 0);
    Cell::Bytes(bytes)
}

fn number(input: &mut Input<'_>) -> Cell {
    let choice = usize::from(input.byte());
    Cell::Number(
        NUMBERS
            .get(choice)
            .copied()
            .unwrap_or_else(|| i64::from_be_bytes(input.array())),
    )
}

fn or_null(input: &mut Input<'_>, draw: fn(&mut Input<'_>) -> Cell) -> Cell {
    if input.byte().is_multiple_of(2) {
        Cell::Null
    } else {
        draw(input)
    }
}

impl Columns for Fed<'_> {
    fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.text_or_null(column)?.ok_or(StoreError::Damaged)
    }

    fn text_or_null(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        match self.cell(column, |input| or_null(input, text)) {
            Cell::Null => Ok(None),
            Cell::Text(text) => Ok(Some(text)),
            Cell::Bytes(_) | Cell::Number(_) => Err(StoreError::Damaged),
        }
    }

    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.bytes_or_null(column)?.ok_or(StoreError::Damaged)
    }

    fn bytes_or_null(&self, column: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.cell(column, |input| or_null(input, bytes)) {
            Cell::Null => Ok(None),
            Cell::Bytes(bytes) => Ok(Some(bytes)),
            Cell::Text(_) | Cell::Number(_) => Err(StoreError::Damaged),
        }
    }

    fn number(&self, column: &'static str) -> Result<i64, StoreError> {
        self.number_or_null(column)?.ok_or(StoreError::Damaged)
    }

    fn number_or_null(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        match self.cell(column, |input| or_null(input, number)) {
            Cell::Null => Ok(None),
            Cell::Number(number) => Ok(Some(number)),
            Cell::Text(_) | Cell::Bytes(_) => Err(StoreError::Damaged),
        }
    }
}

/// Decodes a row, and holds what came out against what stands in it.
fn reads_back<T>(
    fed: Fed<'_>,
    decode: impl FnOnce(&Fed<'_>) -> Result<T, StoreError>,
    encode: impl FnOnce(T) -> columns::Row,
) {
    match decode(&fed) {
        Ok(record) => assert_eq!(encode(record), columns::told(fed.asked())),
        Err(error) => assert_eq!(error, StoreError::Damaged),
    }
}

/// Reads: a table, then its columns in the order in which they are asked for.
pub fn hold(data: &[u8]) {
    let mut input = Input::new(data);
    let table = input.below(15);
    let fed = Fed::new(input);
    match table {
        0 => reads_back(fed, |fed| row::extension(fed), columns::extension),
        1 => reads_back(fed, |fed| row::installation(fed), columns::installation),
        2 => reads_back(fed, |fed| row::secret(fed), columns::secret),
        3 => reads_back(fed, |fed| row::token(fed), columns::token),
        4 => reads_back(fed, |fed| row::policy(fed), columns::policy),
        5 => reads_back(fed, |fed| row::provider(fed), columns::provider),
        6 => reads_back(fed, |fed| row::alert(fed), columns::alert),
        7 => reads_back(fed, |fed| row::outbox(fed), columns::outbox),
        8 => reads_back(fed, |fed| row::request(fed), columns::request),
        9 => reads_back(fed, |fed| row::kek(fed), columns::kek),
        10 => reads_back(fed, |fed| row::instance(fed), columns::instance),
        11 => reads_back(fed, |fed| row::checkpoint(fed), columns::checkpoint),
        12 => reads_back(fed, |fed| row::chain_head(fed), columns::chain_head),
        13 => reads_back(fed, |fed| row::linked_entry(fed), columns::linked_entry),
        // A word that is not known drops everything: nothing can be held against it.
        _ => drop(row::changed(&fed)),
    }
}
