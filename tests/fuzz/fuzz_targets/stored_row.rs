//! Hands what the fuzzer makes up to `targets::stored_row`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiket_fuzz::targets::stored_row::hold(data));
