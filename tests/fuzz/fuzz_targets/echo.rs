//! Hands what the fuzzer makes up to `targets::echo`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiket_fuzz::targets::echo::hold(data));
