//! How fields become the one byte string that is sealed to, linked or authenticated.
//!
//! A domain string comes first, so that bytes made for one use mean nothing in another. Every field is preceded by
//! its length (`u32`, big endian), so that no two lists of fields encode alike; an absent field is the length
//! `0xFFFF_FFFF` and nothing else, so that absent is not empty. Numbers are `u64`, big endian. **Stored bytes depend
//! on this**: a change here is a new domain string, and the golden vectors below say so.

use crate::domain::scope::Scope;

/// The length that says a field is absent.
const ABSENT: u32 = u32::MAX;

/// Encodes fields in the order they are given.
#[derive(Debug)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// Starts an encoding for one use, named by its domain string (`kiket.<what>.v<n>`).
    #[must_use]
    pub fn new(domain: &'static str) -> Self {
        Self(Vec::with_capacity(256)).bytes(domain.as_bytes())
    }

    /// Adds bytes. Fields are limited far below 4 GiB where they enter the product.
    #[must_use]
    pub fn bytes(mut self, field: &[u8]) -> Self {
        let length = u32::try_from(field.len()).unwrap_or(ABSENT).min(ABSENT - 1);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// Adds text.
    #[must_use]
    pub fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Adds a yes or no.
    #[must_use]
    pub fn flag(self, field: bool) -> Self {
        self.bytes(&[u8::from(field)])
    }

    /// Adds a scope, by its name.
    #[must_use]
    pub fn scope(self, field: Scope) -> Self {
        self.text(field.name())
    }

    /// Adds a field that is not there.
    #[must_use]
    pub fn absent(mut self) -> Self {
        self.0.extend_from_slice(&ABSENT.to_be_bytes());
        self
    }

    /// Adds a field that may not be there, by `add` where it is.
    #[must_use]
    pub fn optional<T>(self, field: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match field {
            Some(field) => add(self, field),
            None => self.absent(),
        }
    }

    /// The encoded bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn the_encoding_is_the_one_that_stored_bytes_depend_on() {
        let table = [
            (Encoder::new("d"), "0000000164"),
            (Encoder::new("d").text("ab"), "0000000164000000026162"),
            (Encoder::new("d").bytes(&[0, 255]), "00000001640000000200ff"),
            (Encoder::new("d").text(""), "000000016400000000"),
            (Encoder::new("d").absent(), "0000000164ffffffff"),
            (Encoder::new("d").number(258), "0000000164000000080000000000000102"),
            (Encoder::new("d").flag(true), "00000001640000000101"),
            (Encoder::new("d").flag(false), "00000001640000000100"),
            (
                Encoder::new("d").scope(Scope::Project),
                "00000001640000000770726f6a656374",
            ),
            (Encoder::new("d").optional(None, Encoder::text), "0000000164ffffffff"),
            (
                Encoder::new("d").optional(Some("a"), Encoder::text),
                "00000001640000000161",
            ),
        ];
        for (encoder, golden) in table {
            assert_eq!(HEXLOWER.encode(&encoder.finish()), golden);
        }
    }

    #[test]
    fn lists_of_fields_that_concatenate_alike_encode_differently() {
        let encodings = [
            Encoder::new("d").text("ab").text("c").finish(),
            Encoder::new("d").text("a").text("bc").finish(),
            Encoder::new("d").text("abc").finish(),
            Encoder::new("d").text("abc").text("").finish(),
            Encoder::new("d").text("abc").absent().finish(),
            Encoder::new("dabc").finish(),
        ];
        for (n, one) in encodings.iter().enumerate() {
            assert!(encodings.iter().skip(n + 1).all(|other| other != one));
        }
    }
}
