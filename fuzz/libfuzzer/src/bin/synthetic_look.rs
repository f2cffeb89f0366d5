#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilothouse_fuzz::targets::synthetic_look::run(data));
