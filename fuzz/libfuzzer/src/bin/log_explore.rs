#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilothouse_fuzz::targets::log_explore::run(data));
