//! What must hold of hostile input: a function each, for the fuzzer, and for the test that replays what it found.

pub mod address;
pub mod destination;
pub mod echo;
pub mod env_file;
pub mod envelope;
pub mod head;
mod input;
pub mod manifest;
pub mod payload;
pub mod reference;
pub mod stored_row;

/// What holds of an input, or panics.
pub type Holds = fn(&[u8]);

/// Every target by its name: a binary of this name in `fuzz_targets`, a file of this name in `corpora`.
pub const ALL: [(&str, Holds); 10] = [
    ("address", address::hold),
    ("destination", destination::hold),
    ("echo", echo::hold),
    ("env_file", env_file::hold),
    ("envelope", envelope::hold),
    ("head", head::hold),
    ("manifest", manifest::hold),
    ("payload", payload::hold),
    ("reference", reference::hold),
    ("stored_row", stored_row::hold),
];
