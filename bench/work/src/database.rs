// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A database that SQLite makes and reads: one table of texts, found by their
//! numbers.

use crate::Outcome;
use crate::sum::Sum;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use fastrand::Rng;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::Row;
use std::path::Path;
use std::time::Instant;

/// Rows that are added before it is looked how large the file is.
const BATCH: u64 = 4096;

/// Bytes of a row's text, about.
const LENGTHS: std::ops::Range<usize> = 200..1800;

/// Words of the texts: what compresses about as well as records do.
const WORDS: [&str; 32] = [
    "account",
    "address",
    "amount",
    "booked",
    "charge",
    "city",
    "client",
    "closed",
    "credit",
    "currency",
    "date",
    "debit",
    "delivery",
    "due",
    "invoice",
    "item",
    "name",
    "number",
    "open",
    "order",
    "paid",
    "pending",
    "phone",
    "price",
    "quantity",
    "rate",
    "reference",
    "region",
    "sold",
    "status",
    "total",
    "unit",
];

/// Makes a database of about `mib` MiB, always the same.
///
/// # Errors
/// It is there, or cannot be made.
pub fn make(path: &Path, mib: u64) -> Result<()> {
    let mut database = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    )
    .with_context(|| format!("cannot make {}", path.display()))?;
    // It is thrown away if anything fails.
    database.execute_batch(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
         CREATE TABLE texts (id INTEGER PRIMARY KEY, body TEXT NOT NULL);",
    )?;
    let mut random = Rng::with_seed(mib);
    let mut next = 1..;
    while std::fs::metadata(path)?.len() < mib << 20 {
        let batch = database.transaction()?;
        let mut insert = batch.prepare_cached("INSERT INTO texts VALUES (?1, ?2)")?;
        for id in next.by_ref().take(usize::try_from(BATCH)?) {
            insert.execute((id, text(&mut random)))?;
        }
        drop(insert);
        batch.commit()?;
    }
    Ok(())
}

fn text(random: &mut Rng) -> String {
    let length = random.usize(LENGTHS);
    let mut text = String::with_capacity(length + 32);
    while text.len() < length {
        let word = WORDS.get(random.usize(0..WORDS.len())).copied();
        text.push_str(word.unwrap_or_default());
        let value = random.u32(0..10_000_000);
        text.push_str(&format!("={value};"));
    }
    text
}

fn open(path: &Path) -> Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Reads all rows, in the order of the table.
///
/// # Errors
/// The database cannot be read.
pub fn scan(path: &Path) -> Result<Outcome> {
    let start = Instant::now();
    let database = open(path)?;
    let mut select = database.prepare("SELECT id, body FROM texts ORDER BY id")?;
    let mut rows = select.query([])?;
    let mut outcome = Outcome::default();
    while let Some(row) = rows.next()? {
        add(&mut outcome, row)?;
    }
    Ok(outcome.timed(start.elapsed()))
}

/// Reads `count` rows that follow from `seed`, each as likely as another, one
/// after the other.
///
/// # Errors
/// The database cannot be read.
pub fn read(path: &Path, count: u64, seed: u64) -> Result<Outcome> {
    let start = Instant::now();
    let database = open(path)?;
    let last: i64 = database.query_row("SELECT max(id) FROM texts", [], |row| row.get(0))?;
    let mut random = Rng::with_seed(seed);
    let mut select = database.prepare("SELECT id, body FROM texts WHERE id = ?1")?;
    let mut outcome = Outcome::default();
    for _ in 0..count {
        let mut rows = select.query([random.i64(1..=last)])?;
        let row = rows.next()?.context("a row is missing")?;
        add(&mut outcome, row)?;
    }
    Ok(outcome.timed(start.elapsed()))
}

/// Has SQLite look for damage.
///
/// # Errors
/// There is some.
pub fn check(path: &Path) -> Result<()> {
    let said: String = open(path)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(said == "ok", "SQLite finds: {said}");
    Ok(())
}

fn add(outcome: &mut Outcome, row: &Row<'_>) -> Result<()> {
    let id: i64 = row.get(0)?;
    let body = row.get_ref(1)?.as_str()?;
    let mut sum = Sum::default();
    sum.add(&id.to_le_bytes());
    sum.add(body.as_bytes());
    outcome.count += 1;
    outcome.bytes += body.len() as u64;
    outcome.sum = outcome.sum.wrapping_add(sum.value());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_read_and_a_change_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts");
        make(&path, 4).unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        assert!((4 << 20..9 << 20).contains(&size), "{size}");
        let all = scan(&path).unwrap();
        check(&path).unwrap();
        assert_eq!(all.count % BATCH, 0);
        let some = read(&path, 100, 5).unwrap();
        assert_eq!(some.count, 100);
        assert!(some.is_like(&read(&path, 100, 5).unwrap()));
        assert!(!some.is_like(&read(&path, 100, 6).unwrap()));
        let writable = Connection::open(&path).unwrap();
        let change = "UPDATE texts SET body = upper(body) WHERE id = 77";
        writable.execute(change, []).unwrap();
        assert!(!all.is_like(&scan(&path).unwrap()));
    }
}
