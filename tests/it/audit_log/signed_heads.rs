//! Not there yet, which is said here.
