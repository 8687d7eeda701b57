//! The rooms of the product that read what others wrote, mounted, and what must hold of them.
//!
//! They are mounted file by file, not linked: the fuzzers are made of a hundred crates instead of four hundred, and
//! reach what the library keeps to itself without its being public.
#![allow(clippy::indexing_slicing, clippy::expect_used, reason = "tests")]
#![allow(
    clippy::duplicate_mod,
    unreachable_pub,
    reason = "mounted files are siblings of others elsewhere"
)]

#[path = "../../../src/crypto/mod.rs"]
pub mod crypto;
#[path = "../../../src/domain/mod.rs"]
pub mod domain;

pub mod egress;
pub mod targets;
