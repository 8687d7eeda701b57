//! How an answer that comes in pieces is redacted: whatever may be the beginning of a value waits for what follows it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::search::EchoPatterns;

/// Redacts a text that comes in pieces, exactly as [`EchoPatterns::redact`] would redact the whole.
pub struct Redactor {
    patterns: Arc<EchoPatterns>,
    /// What may be the beginning of a value.
    held: Zeroizing<Vec<u8>>,
    /// Before so many bytes are held nothing new can be told.
    needs: usize,
    /// Which keys' values were found.
    found: Vec<usize>,
}

impl Redactor {
    /// A redactor at the beginning of a text.
    #[must_use]
    pub fn new(patterns: Arc<EchoPatterns>) -> Self {
        Self {
            patterns,
            held: Zeroizing::new(Vec::new()),
            needs: 0,
            found: Vec::new(),
        }
    }

    /// Takes the next piece; returns what can be passed on.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        if self.held.len() < self.needs {
            return Vec::new();
        }
        self.pass_on(false)
    }

    /// The text is over; returns the rest.
    pub fn end(&mut self) -> Vec<u8> {
        self.pass_on(true)
    }

    /// Which keys' values were found so far, each as often as it was.
    #[must_use]
    pub fn found(&self) -> &[usize] {
        &self.found
    }

    fn pass_on(&mut self, is_end: bool) -> Vec<u8> {
        let looked = self.patterns.look(&self.held, is_end);
        let mut out = Vec::with_capacity(looked.settled);
        let written = self.patterns.replace(&self.held, &looked.matches, &mut out);
        out.extend_from_slice(self.held.get(written..looked.settled).unwrap_or_default());
        self.found.extend(looked.matches.iter().map(|found| found.key));
        self.needs = match looked.needs {
            0 => 0,
            // Twice as much, at most: a text that comes byte by byte is not looked through for each of them.
            needs => (needs - looked.settled).min((self.held.len() - looked.settled) * 2),
        };
        let rest = Zeroizing::new(self.held.split_off(looked.settled));
        self.held = rest;
        out
    }
}
