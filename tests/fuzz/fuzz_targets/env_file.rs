//! Hands what the fuzzer makes up to `targets::env_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiket_fuzz::targets::env_file::hold(data));
