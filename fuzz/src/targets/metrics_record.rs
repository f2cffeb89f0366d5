//! Records of the metrics store's log: any bytes.

pub fn run(bytes: &[u8]) {
    pilothouse_metrics::is_record(bytes);
}
