//! Records of the metrics store's log: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pilothouse_metrics::is_record(bytes);
});
