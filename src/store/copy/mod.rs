//! How all rows go from one database to another: copied as they are, compared, and not served before they were.
//!
//! Nothing is opened on the way: sealed bytes, MACs, links and signatures stay what they are, so the same keys serve
//! after. Neither is anything added: an entry about the copy would make the target another one than the source. The
//! gap between the last instance's stop there and the first one's start here says when it was.
//!
//! The source is read in one snapshot, and the target is written in one transaction. From before it until
//! [`Copied::confirm`], the target has a table that marks it: [`open`](super::open) refuses such a database, and a copy
//! into it starts over. While a copy runs, both databases are locked as `serve` locks them: a file for everyone,
//! a PostgreSQL database against instances that serve from it.

mod end;
mod rows;
mod tables;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::time::timeout;

use super::{OpenError, Place, SharedStore, StoreError, place, postgres, sqlite};
use crate::crypto::chain::ChainKey;
pub use end::Side;
pub(super) use end::{End, Standing, UNFINISHED};
pub(super) use rows::{Cell, Cells, Column, Kind, Shape, quoted};
use rows::{Digest, size};
pub use tables::{COPIED, LEFT_BEHIND, Table};

/// The most rows that are in memory at a time, and about how many bytes of them.
const BATCH_MAX: (usize, usize) = (500, 1 << 20);

/// The longest that one batch takes. A database that is gone without a word is given up.
const BATCH_WAIT_MAX: Duration = Duration::from_secs(300);

/// Why a copy did not come to its end. No variant carries anything of a URL or a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A database cannot be used as this end.
    #[error("{0}: {1}")]
    Open(Side, OpenError),
    /// There is nothing to copy.
    #[error("both ends are the same database")]
    Same,
    /// The source was not migrated to this version. A copy does not write there.
    #[error("from: an older version of kiket wrote this database; start this version's `kiket serve` on it once")]
    Older,
    /// The target has rows that no copy left behind.
    #[error("to: this database has rows; a copy takes an empty one. Nothing in it was changed")]
    NotEmpty,
    /// A table has other columns in the source than in the target.
    #[error("table {table}: its columns are not those of this version")]
    Unlike {
        /// Its name.
        table: &'static str,
    },
    /// A database failed on the way. The target keeps its mark; start over.
    #[error("{0}: {1}")]
    Store(Side, StoreError),
    /// What arrived is not what was sent. The target keeps its mark.
    #[error("table {table}: what arrived is not what was sent ({sent} rows sent, {arrived} arrived)")]
    Differs {
        /// Its name.
        table: &'static str,
        /// Rows read from the source.
        sent: u64,
        /// Rows read back from the target.
        arrived: u64,
    },
}

/// What is being done to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Its rows are read from the source and written to the target.
    Copying,
    /// Its rows are read back.
    Comparing,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// With what.
    pub doing: Doing,
    /// Of which table.
    pub table: &'static str,
    /// Rows of this table so far.
    pub rows: u64,
    /// Whether the table is done.
    pub is_last: bool,
    /// Rows of all tables that this was done with so far.
    pub done: u64,
    /// Of how many.
    pub total: u64,
}

/// What hears how far a copy is.
pub type Progress<'a> = &'a mut (dyn FnMut(Step) + Send);

/// A table that was copied.
#[derive(Debug, Clone, Copy)]
pub struct CopiedTable {
    /// Its name.
    pub name: &'static str,
    /// Its rows.
    pub rows: u64,
    /// How long copying and comparing took.
    pub took: Duration,
}

/// Both ends, taken, looked at and fit for a copy; nothing is written yet, but that a file is made where none was.
pub struct Ends {
    from: Box<dyn End>,
    to: Box<dyn End>,
    chain: ChainKey,
    /// Whether an earlier copy left the target as it is.
    is_begun: bool,
}

/// A copy whose rows were compared. The target is not served before it is confirmed.
pub struct Copied {
    from: Box<dyn End>,
    to: Box<dyn End>,
    chain: ChainKey,
    /// What was copied, in order.
    pub tables: Vec<CopiedTable>,
}

impl Ends {
    /// Takes both databases by their URLs.
    ///
    /// # Errors
    /// [`CopyError`]; nothing was changed.
    pub async fn open(from: &str, to: &str, chain: ChainKey) -> Result<Self, CopyError> {
        let (mut from, mut to) = (end(from, Side::From)?, end(to, Side::To)?);
        let one = from.identity().await.map_err(refused(Side::From))?;
        let other = to.identity().await.map_err(refused(Side::To))?;
        if one.is_some() && one == other {
            return Err(CopyError::Same);
        }
        from.take().await.map_err(refused(Side::From))?;
        match from.standing().await.map_err(refused(Side::From))? {
            Standing::Current => {}
            Standing::Older => return Err(CopyError::Older),
            Standing::Untouched => return Err(CopyError::Open(Side::From, OpenError::Foreign)),
        }
        let tables = from.tables().await.map_err(failed(Side::From))?;
        if tables.iter().any(|table| table == UNFINISHED) {
            return Err(CopyError::Open(Side::From, OpenError::Unfinished));
        }
        to.take().await.map_err(refused(Side::To))?;
        to.standing().await.map_err(refused(Side::To))?;
        let tables = to.tables().await.map_err(failed(Side::To))?;
        let is_begun = tables.iter().any(|table| table == UNFINISHED);
        if !is_begun {
            refuse_rows(&mut *to, &tables).await?;
        }
        Ok(Self {
            from,
            to,
            chain,
            is_begun,
        })
    }

    /// The source, to be read.
    ///
    /// # Errors
    /// [`CopyError::Open`].
    pub async fn source(&self) -> Result<SharedStore, CopyError> {
        self.from.store(self.chain.clone()).await.map_err(refused(Side::From))
    }

    /// Copies all rows, and compares what arrived with what was sent. Cancelled or failed, it leaves a target that is
    /// refused until a copy is made anew.
    ///
    /// # Errors
    /// [`CopyError`].
    pub async fn copy(self, progress: Progress<'_>) -> Result<Copied, CopyError> {
        let Self {
            mut from,
            mut to,
            chain,
            is_begun,
        } = self;
        to.migrate().await.map_err(refused(Side::To))?;
        let mark = format!("CREATE TABLE IF NOT EXISTS {UNFINISHED} (mark TEXT)");
        to.run(&mark).await.map_err(failed(Side::To))?;
        let shapes = shapes(&mut *from, &mut *to).await?;
        from.begin().await.map_err(failed(Side::From))?;
        let total = total(&mut *from).await?;
        to.begin().await.map_err(failed(Side::To))?;
        if is_begun {
            let mut tables = to.tables().await.map_err(failed(Side::To))?;
            tables.retain(|table| table != UNFINISHED);
            to.clear(&tables).await.map_err(failed(Side::To))?;
        }
        let mut sent = Vec::new();
        let mut hearing = Hearing::new(Doing::Copying, total, &mut *progress);
        for shape in &shapes {
            sent.push(send(&mut *from, &mut *to, shape, &mut hearing).await?);
        }
        to.run("COMMIT").await.map_err(failed(Side::To))?;
        let mut tables = Vec::new();
        let mut hearing = Hearing::new(Doing::Comparing, total, progress);
        for (shape, sent) in shapes.iter().zip(sent) {
            tables.push(compare(&mut *to, shape, &sent, &mut hearing).await?);
        }
        from.run("ROLLBACK").await.map_err(failed(Side::From))?;
        Ok(Copied {
            from,
            to,
            chain,
            tables,
        })
    }
}

impl Copied {
    /// The target, to be read: what only its keys can tell is for whoever has them to verify.
    ///
    /// # Errors
    /// [`CopyError::Open`].
    pub async fn target(&self) -> Result<SharedStore, CopyError> {
        self.to.store(self.chain.clone()).await.map_err(refused(Side::To))
    }

    /// Takes the mark from the target, so that it may be served, and gives both databases back.
    ///
    /// # Errors
    /// [`CopyError::Store`]; then it is marked still.
    pub async fn confirm(mut self) -> Result<(), CopyError> {
        let unmark = format!("DROP TABLE {UNFINISHED}");
        self.to.run(&unmark).await.map_err(failed(Side::To))?;
        self.to.close().await;
        self.from.close().await;
        Ok(())
    }
}

/// A table's rows as they were sent.
struct Sent {
    rows: u64,
    digest: [u8; 32],
    /// The highest position that was given.
    counter: Option<i64>,
    took: Duration,
}

/// Tells how far it is.
struct Hearing<'a> {
    doing: Doing,
    before: u64,
    total: u64,
    progress: Progress<'a>,
}

impl<'a> Hearing<'a> {
    fn new(doing: Doing, total: u64, progress: Progress<'a>) -> Self {
        Self {
            doing,
            before: 0,
            total,
            progress,
        }
    }

    fn at(&mut self, table: &'static str, rows: u64, is_last: bool) {
        let done = self.before.saturating_add(rows);
        (self.progress)(Step {
            doing: self.doing,
            table,
            rows,
            is_last,
            done,
            total: self.total,
        });
        if is_last {
            self.before = done;
        }
    }
}

fn end(url: &str, side: Side) -> Result<Box<dyn End>, CopyError> {
    match place(url).map_err(refused(side))? {
        Place::File(path) => Ok(Box::new(sqlite::SqliteEnd::new(path, side))),
        Place::Server(url) => {
            let end = postgres::PostgresEnd::new(url, side).map_err(refused(side))?;
            Ok(Box::new(end))
        }
    }
}

fn refused(side: Side) -> impl Fn(OpenError) -> CopyError {
    move |error| CopyError::Open(side, error)
}

fn failed(side: Side) -> impl Fn(StoreError) -> CopyError {
    move |error| CopyError::Store(side, error)
}

/// Whatever table it is in: a row that this version knows nothing of is one, too.
async fn refuse_rows(to: &mut dyn End, tables: &[String]) -> Result<(), CopyError> {
    for table in tables {
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM {} LIMIT 1) AS first",
            quoted(table)
        );
        if to.number(&sql).await.map_err(failed(Side::To))? > 0 {
            return Err(CopyError::NotEmpty);
        }
    }
    Ok(())
}

/// The tables with their columns, which are the same at both ends.
async fn shapes(from: &mut dyn End, to: &mut dyn End) -> Result<Vec<Shape>, CopyError> {
    let mut shapes = Vec::new();
    for table in COPIED {
        let sort = |columns: Option<Vec<Column>>| {
            columns.map(|mut columns| {
                columns.sort_by(|one, other| one.name.cmp(&other.name));
                columns
            })
        };
        let theirs = sort(from.columns(table.name).await.map_err(failed(Side::From))?);
        let ours = sort(to.columns(table.name).await.map_err(failed(Side::To))?);
        let columns = ours.filter(|columns| !columns.is_empty() && theirs.as_ref() == Some(columns));
        shapes.push(Shape {
            table: *table,
            columns: columns.ok_or(CopyError::Unlike { table: table.name })?,
        });
    }
    Ok(shapes)
}

/// How many rows there are to copy.
async fn total(from: &mut dyn End) -> Result<u64, CopyError> {
    let mut total: u64 = 0;
    for table in COPIED {
        let sql = format!("SELECT COUNT(*) FROM {}", quoted(table.name));
        let rows = from.number(&sql).await.map_err(failed(Side::From))?;
        total = total.saturating_add(rows.unsigned_abs());
    }
    Ok(total)
}

/// Copies one table, a batch after another.
async fn send(
    from: &mut dyn End,
    to: &mut dyn End,
    shape: &Shape,
    hearing: &mut Hearing<'_>,
) -> Result<Sent, CopyError> {
    let (began, table) = (Instant::now(), shape.table.name);
    let (mut digest, mut rows, mut highest) = (Digest::new(), 0_u64, 0);
    let mut source = from.rows(shape);
    let (count_max, bytes_max) = BATCH_MAX;
    let (mut batch, mut bytes) = (Vec::with_capacity(count_max), 0_usize);
    loop {
        let next = in_time(source.next()).await.map_err(failed(Side::From))?;
        let is_last = next.is_none();
        if let Some(cells) = next {
            let cells = cells.map_err(failed(Side::From))?;
            digest.row(&cells);
            highest = shape.position(&cells).unwrap_or(0).max(highest);
            bytes = bytes.saturating_add(size(&cells));
            batch.push(cells);
        }
        if is_last || batch.len() >= count_max || bytes >= bytes_max {
            let written = in_time(to.write(shape, &batch)).await.and_then(|written| written);
            written.map_err(failed(Side::To))?;
            rows = rows.saturating_add(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            (batch, bytes) = (recycled(batch), 0);
            hearing.at(table, rows, is_last);
        }
        if is_last {
            break;
        }
    }
    drop(source);
    let counter = if shape.is_counted() {
        // Positions are never given twice, also those of rows that are gone: cursors stand behind them.
        let given = from.counter(table).await.map_err(failed(Side::From))?;
        let counter = given.max(highest);
        to.count_from(table, counter).await.map_err(failed(Side::To))?;
        Some(counter)
    } else {
        None
    };
    Ok(Sent {
        rows,
        digest: digest.finish(),
        counter,
        took: began.elapsed(),
    })
}

fn recycled(mut batch: Vec<Cells>) -> Vec<Cells> {
    batch.clear();
    batch
}

/// Reads back what was committed.
async fn compare(
    to: &mut dyn End,
    shape: &Shape,
    sent: &Sent,
    hearing: &mut Hearing<'_>,
) -> Result<CopiedTable, CopyError> {
    let (began, table) = (Instant::now(), shape.table.name);
    let (mut digest, mut arrived) = (Digest::new(), 0_u64);
    let mut rows = to.rows(shape);
    let every = u64::try_from(BATCH_MAX.0).unwrap_or(u64::MAX);
    while let Some(cells) = in_time(rows.next()).await.map_err(failed(Side::To))? {
        digest.row(&cells.map_err(failed(Side::To))?);
        arrived = arrived.saturating_add(1);
        if arrived.is_multiple_of(every) {
            hearing.at(table, arrived, false);
        }
    }
    drop(rows);
    let counter = match sent.counter {
        Some(_) => Some(to.counter(table).await.map_err(failed(Side::To))?),
        None => None,
    };
    if arrived != sent.rows || digest.finish() != sent.digest || counter != sent.counter {
        return Err(CopyError::Differs {
            table,
            sent: sent.rows,
            arrived,
        });
    }
    hearing.at(table, arrived, true);
    Ok(CopiedTable {
        name: table,
        rows: arrived,
        took: sent.took.saturating_add(began.elapsed()),
    })
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, StoreError> {
    timeout(BATCH_WAIT_MAX, work).await.map_err(|_| StoreError::Unavailable)
}
