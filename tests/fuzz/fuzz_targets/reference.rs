//! Hands what the fuzzer makes up to `targets::reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiket_fuzz::targets::reference::hold(data));
