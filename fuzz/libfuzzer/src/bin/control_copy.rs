#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilothouse_fuzz::targets::control_copy::run(data));
