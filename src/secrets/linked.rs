//! What the row of a reference seals: the reference, and which version of the value behind it was noted last.

use crate::domain::reference::Reference;

/// A reference as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// What it names.
    pub reference: Reference,
    /// The backend's name of the version that the last noted rotation brought; `None` before the first, and of backends
    /// whose versions have no names: nothing that says anything of a value is stored.
    pub noted: Option<String>,
}

impl Linked {
    /// A reference that nothing is noted of.
    #[must_use]
    pub const fn new(reference: Reference) -> Self {
        Self { reference, noted: None }
    }

    /// The text to seal. References and names of versions have no line breaks.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.noted {
            Some(noted) => format!("{}\n{noted}", self.reference),
            None => self.reference.to_string(),
        }
    }

    /// Reads a text that was sealed.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (reference, noted) = match text.split_once('\n') {
            Some((reference, noted)) => (reference, Some(noted.to_owned())),
            None => (text, None),
        };
        Some(Self {
            reference: Reference::parse(reference).ok()?,
            noted,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_reads_back() {
        let plain = Linked::new(Reference::parse("vault:secret/a/b#f@3").unwrap());
        let noted = Linked {
            noted: Some(String::from("4@2026-11-25T04:20:55.000000001Z")),
            ..plain.clone()
        };
        for linked in [plain, noted] {
            assert_eq!(Linked::read(&linked.text()), Some(linked));
        }
        assert_eq!(
            Linked::read("a/b").unwrap().text(),
            "a/b",
            "as rows were sealed that nothing was noted of"
        );
        assert_eq!(Linked::read("\n4"), None);
    }
}
