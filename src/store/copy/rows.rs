//! What a row is between two databases: cells of four types, and a digest that is the same wherever they stand.

use crate::crypto::encoding::Encoder;
use crate::crypto::sha256::Sha256;

use super::tables::Table;

/// What a column holds, where it is not NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Number,
    Text,
    Bytes,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Column {
    pub(in crate::store) name: String,
    pub(in crate::store) kind: Kind,
}

/// One value.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Cell {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The values of a row, in the order of its table's columns.
pub(in crate::store) type Cells = Vec<Cell>;

/// A table with its columns, in the order of their names.
#[derive(Debug)]
pub(in crate::store) struct Shape {
    pub(in crate::store) table: Table,
    pub(in crate::store) columns: Vec<Column>,
}

/// The column that the database counts by itself.
const POSITION: &str = "position";

impl Cell {
    /// About how much memory it takes.
    fn size(&self) -> usize {
        let text = match self {
            Self::Null | Self::Number(_) => 0,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        };
        size_of::<Self>().saturating_add(text)
    }
}

/// About how much memory a row takes.
pub(super) fn size(cells: &Cells) -> usize {
    cells.iter().map(Cell::size).fold(0, usize::saturating_add)
}

impl Shape {
    /// Whether the database counts the table's rows.
    pub(super) fn is_counted(&self) -> bool {
        self.columns.iter().any(|column| column.name == POSITION)
    }

    /// A row's position.
    pub(super) fn position(&self, cells: &Cells) -> Option<i64> {
        let at = self.columns.iter().position(|column| column.name == POSITION)?;
        match cells.get(at)? {
            Cell::Number(position) => Some(*position),
            Cell::Null | Cell::Text(_) | Cell::Bytes(_) => None,
        }
    }

    /// Reads all rows in the order of their keys: texts are compared byte by byte in both databases.
    pub(in crate::store) fn select(&self) -> String {
        let keys: Vec<String> = self.table.key.iter().map(|name| quoted(name)).collect();
        let (columns, table) = (self.names(), quoted(self.table.name));
        format!("SELECT {columns} FROM {table} ORDER BY {}", keys.join(", "))
    }

    /// The columns' names, as they stand in a statement.
    pub(in crate::store) fn names(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        names.join(", ")
    }
}

/// A name, as it stands in a statement.
pub(in crate::store) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What a table's rows are known by.
pub(super) struct Digest(Sha256);

impl Digest {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    /// Takes the next row in.
    pub(super) fn row(&mut self, cells: &Cells) {
        let mut encoder = Encoder::new("kiket.copy.row.v1");
        for cell in cells {
            encoder = match cell {
                Cell::Null => encoder.absent(),
                Cell::Number(number) => encoder.number(number.cast_unsigned()),
                Cell::Text(text) => encoder.text(text),
                Cell::Bytes(bytes) => encoder.bytes(bytes),
            };
        }
        self.0.update(&encoder.finish());
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[Cells]) -> [u8; 32] {
        let mut digest = Digest::new();
        rows.iter().for_each(|row| digest.row(row));
        digest.finish()
    }

    #[test]
    fn rows_that_differ_in_anything_have_another_digest() {
        let text = |text: &str| Cell::Text(text.to_owned());
        let tables: [&[Cells]; 9] = [
            &[],
            &[vec![text("a"), text("b")]],
            &[vec![text("ab"), text("")]],
            &[vec![text("a")], vec![text("b")]],
            &[vec![text("b")], vec![text("a")]],
            &[vec![text("a"), Cell::Null]],
            &[vec![text("a"), text("")]],
            &[vec![text("a"), Cell::Number(-1)]],
            &[vec![text("a"), Cell::Number(1)]],
        ];
        for (n, one) in tables.iter().enumerate() {
            assert_eq!(digest(one), digest(one));
            assert!(
                tables.iter().skip(n + 1).all(|other| digest(other) != digest(one)),
                "{n}"
            );
        }
    }

    #[test]
    fn a_shape_reads_its_columns_by_its_key() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: Kind::Number,
        };
        let shape = Shape {
            table: Table {
                name: "audit",
                key: &["chain", "sequence"],
            },
            columns: vec![column("count"), column("position")],
        };
        let expected = r#"SELECT "count", "position" FROM "audit" ORDER BY "chain", "sequence""#;
        assert_eq!(shape.select(), expected);
        assert_eq!(shape.position(&vec![Cell::Number(3), Cell::Number(7)]), Some(7));
        assert!(shape.is_counted());
    }
}
