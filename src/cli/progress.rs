//! How far a long import is, on a terminal: one line that is drawn over.

use std::io::{self, IsTerminal};

use super::prompt;

const WIDTH: usize = 30;

/// A bar. Draws nothing where nobody looks.
pub(super) struct Progress {
    doing: &'static str,
    total: usize,
    is_shown: bool,
}

impl Progress {
    /// A bar for so many steps.
    pub(super) fn of(total: usize) -> Self {
        Self::doing("", total)
    }

    /// The same, behind a word that says with what.
    pub(super) fn doing(doing: &'static str, total: usize) -> Self {
        let progress = Self {
            doing,
            total,
            is_shown: io::stderr().is_terminal(),
        };
        progress.at(0);
        progress
    }

    /// So many are done.
    pub(super) fn at(&self, done: usize) {
        if self.is_shown {
            prompt::say(&format!("\r{}{}", self.doing, bar(done, self.total)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            prompt::say("\n");
        }
    }
}

fn bar(done: usize, total: usize) -> String {
    let filled = done
        .saturating_mul(WIDTH)
        .checked_div(total)
        .unwrap_or(WIDTH)
        .min(WIDTH);
    let empty = WIDTH.saturating_sub(filled);
    format!("[{}{}] {done} of {total}", "#".repeat(filled), ".".repeat(empty))
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn the_bar_fills_with_what_is_done() {
        assert_eq!(bar(0, 4), format!("[{}] 0 of 4", ".".repeat(30)));
        assert_eq!(bar(2, 4), format!("[{}{}] 2 of 4", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(4, 4), format!("[{}] 4 of 4", "#".repeat(30)));
        assert_eq!(bar(0, 0), format!("[{}] 0 of 0", "#".repeat(30)));
    }
}
