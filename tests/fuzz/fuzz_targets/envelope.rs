//! Hands what the fuzzer makes up to `targets::envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiket_fuzz::targets::envelope::hold(data));
