//! Whether an answer gives back a value that was injected: which forms are looked for, and what stands in their place.
//!
//! Dispatchers store answers, and endpoints echo requests into them, by accident above all. A value is known again in
//! the forms that encoders give it (contract, section 5); whoever wants to get it past can invent another.

mod forms;
mod search;
mod stream;

pub use search::{EchoPatterns, Match};
pub use stream::Redactor;

/// Shorter values are not looked for: they would be found everywhere.
pub const VALUE_BYTES_MIN: usize = 8;

#[cfg(test)]
mod tests;
