//! How the forms of all values are found in a text at once, at a fraction of a nanosecond a byte where there are none.
//!
//! The text is sampled: a short piece is looked at every so many bytes, and a bit table tells whether any form has that
//! piece at a place where a sample could fall. Every form is long enough that each occurrence holds at least one
//! sample. What the table lets through is compared with the forms themselves, so nothing is found that is not there.

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::VALUE_BYTES_MIN;
use super::forms::{Form, forms};
use crate::domain::key::SecretKey;
use crate::domain::resolution::PayloadSecrets;

/// The piece that is looked at where every form is long enough, and where one is short.
const PIECE_LONG: usize = 8;
const PIECE_SHORT: usize = 4;

/// The shortest form for which the longer piece leaves a useful step.
const FORM_LONG: usize = 16;

/// The longest step: longer ones gain nothing and make the table full.
const STEP_MAX: usize = 24;

/// Bits in the table.
const TABLE_BITS: u32 = 13;
const TABLE_WORDS: usize = (1 << TABLE_BITS) / 64;

/// Everything that is looked for in the answers to one installation. Wiped when dropped.
pub struct EchoPatterns {
    keys: Vec<SecretKey>,
    forms: Vec<(usize, Form)>,
    piece: usize,
    step: usize,
    table: Zeroizing<Vec<u64>>,
    /// Hash of a piece, form and place, sorted.
    pieces: Zeroizing<Vec<u64>>,
}

/// One place of a text that gives a value back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Where it starts.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Which key's value it is, by its place in [`EchoPatterns::keys`].
    pub key: usize,
}

/// What a text holds, as far as it can be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// In order, none overlapping another: the leftmost first, of those that start together the longest.
    pub(super) matches: Vec<Match>,
    /// Up to here nothing that follows the text can change what was found.
    pub(super) settled: usize,
    /// So many bytes have to be there before more can be told.
    pub(super) needs: usize,
}

impl EchoPatterns {
    /// The patterns of what a payload carries; `None` where no value is long enough to be looked for.
    #[must_use]
    pub fn new(secrets: &PayloadSecrets) -> Option<Self> {
        Self::over(secrets.iter().map(|(key, value)| (key, value.expose_secret())))
    }

    /// The patterns of any values, without the white space around them: a PEM file is the same without its last line
    /// break. `None` where no value is long enough to be looked for.
    #[must_use]
    pub fn of<'a>(values: impl IntoIterator<Item = (&'a SecretKey, &'a SecretString)>) -> Option<Self> {
        let values = values.into_iter();
        Self::over(values.map(|(key, value)| (key, value.expose_secret().trim())))
    }

    fn over<'a>(values: impl Iterator<Item = (&'a SecretKey, &'a str)>) -> Option<Self> {
        let (mut keys, mut all): (Vec<SecretKey>, Vec<(usize, Form)>) = (Vec::new(), Vec::new());
        for (key, value) in values {
            if value.len() < VALUE_BYTES_MIN {
                continue;
            }
            all.extend(forms(value).into_iter().map(|form| (keys.len(), form)));
            keys.push(key.clone());
        }
        let shortest = all.iter().map(|(_, form)| form.len()).min()?;
        let piece = if shortest >= FORM_LONG { PIECE_LONG } else { PIECE_SHORT };
        let step = (shortest + 1).saturating_sub(piece).clamp(1, STEP_MAX);
        let mut patterns = Self {
            keys,
            forms: all,
            piece,
            step,
            table: Zeroizing::new(vec![0; TABLE_WORDS]),
            pieces: Zeroizing::new(Vec::new()),
        };
        patterns.index();
        Some(patterns)
    }

    /// The keys whose values are looked for.
    #[must_use]
    pub fn keys(&self) -> &[SecretKey] {
        &self.keys
    }

    /// Notes the pieces of every form at each place where a sample can fall.
    fn index(&mut self) {
        let mut pieces = Zeroizing::new(Vec::with_capacity(self.forms.len() * self.step));
        for (number, (_, form)) in self.forms.iter().enumerate() {
            for (place, piece) in form.windows(self.piece).take(self.step).enumerate() {
                let hash = hash(piece);
                if let Some(word) = self.table.get_mut(word_of(hash)) {
                    *word |= bit_of(hash);
                }
                pieces.push(packed(hash, number, place));
            }
        }
        pieces.sort_unstable();
        self.pieces = pieces;
    }

    /// Every place of a whole text that gives a value back.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Vec<Match> {
        self.look(text, true).matches
    }

    /// A whole text with `[redacted:KEY]` in the place of each value, and which keys those were; `None` where there is
    /// none.
    #[must_use]
    pub fn redact(&self, text: &[u8]) -> Option<(Vec<u8>, Vec<usize>)> {
        let matches = self.find(text);
        if matches.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(text.len());
        let end = self.replace(text, &matches, &mut out);
        out.extend_from_slice(text.get(end..).unwrap_or_default());
        Some((out, matches.iter().map(|found| found.key).collect()))
    }

    /// Writes a text up to the end of the last match. Returns that end.
    pub(super) fn replace(&self, text: &[u8], matches: &[Match], out: &mut Vec<u8>) -> usize {
        let mut written = 0;
        for found in matches {
            out.extend_from_slice(text.get(written..found.start).unwrap_or_default());
            out.extend_from_slice(b"[redacted:");
            out.extend_from_slice(self.keys.get(found.key).map_or("", |key| key.as_str()).as_bytes());
            out.push(b']');
            written = found.end;
        }
        written
    }

    /// Looks through a text; more may follow it unless `is_end`.
    pub(super) fn look(&self, text: &[u8], is_end: bool) -> Found {
        let mut candidates = self.candidates(text);
        // Of those that start together the longest comes first.
        candidates.sort_unstable_by_key(|&(start, form)| (start, std::cmp::Reverse(self.form(form).len()), form));
        let mut found = Found {
            matches: Vec::new(),
            settled: if is_end { text.len() } else { self.sampled(text.len()) },
            needs: 0,
        };
        let mut free = 0;
        for (start, number) in candidates {
            if start < free || start >= found.settled {
                continue;
            }
            let form = self.form(number);
            let there = text.get(start..).unwrap_or_default();
            if there.starts_with(form) {
                let key = self.forms.get(number).map_or(0, |(key, _)| *key);
                free = start + form.len();
                found.matches.push(Match { start, end: free, key });
            } else if !is_end && form.starts_with(there) {
                found.settled = start;
                found.needs = start + form.len();
                break;
            }
        }
        found.settled = found.settled.max(free);
        found
    }

    /// Places at which a form may start, as far as samples tell.
    fn candidates(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let mut candidates = Vec::new();
        let mut at = 0;
        while let Some(piece) = text.get(at..at + self.piece) {
            let hash = hash(piece);
            if self
                .table
                .get(word_of(hash))
                .is_some_and(|word| word & bit_of(hash) != 0)
            {
                let first = self.pieces.partition_point(|entry| *entry < packed(hash, 0, 0));
                let same = self
                    .pieces
                    .iter()
                    .skip(first)
                    .take_while(|entry| hash_of(**entry) == hash);
                candidates.extend(same.filter_map(|entry| Some((at.checked_sub(place_of(*entry))?, form_of(*entry)))));
            }
            at += self.step;
        }
        candidates
    }

    fn form(&self, number: usize) -> &[u8] {
        self.forms.get(number).map_or(&[], |(_, form)| form.as_slice())
    }

    /// Up to here every occurrence that starts in a text of this length has shown itself by a sample.
    const fn sampled(&self, bytes: usize) -> usize {
        (bytes + 1).saturating_sub(self.step + self.piece - 1)
    }
}

/// Spreads a piece over 32 bits.
fn hash(piece: &[u8]) -> u32 {
    let number = match *piece {
        [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        _ => 0,
    };
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

const fn word_of(hash: u32) -> usize {
    (hash >> (32 - TABLE_BITS)) as usize / 64
}

const fn bit_of(hash: u32) -> u64 {
    1 << ((hash >> (32 - TABLE_BITS)) % 64)
}

const fn packed(hash: u32, form: usize, place: usize) -> u64 {
    (hash as u64) << 32 | (form as u64 & 0xff_ffff) << 8 | (place as u64 & 0xff)
}

const fn hash_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

const fn form_of(entry: u64) -> usize {
    (entry >> 8 & 0xff_ffff) as usize
}

const fn place_of(entry: u64) -> usize {
    (entry & 0xff) as usize
}
