//! Hands what the fuzzer makes up to `targets::head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiket_fuzz::targets::head::hold(data));
