//! The copy beside the control plane's file, which a start without that file is made from.
//!
//! Strategy: the input is what is in the copy; its checksum is right, as after a bug rather than a
//! damage.
//! Invariant: whatever the copy holds, a control plane is made from it that opens.

use std::fs;

use pilothouse_control::{Control, Options, salvage};

const MAGIC: &[u8] = b"pilothouse-control-copy 1\n";

pub fn run(data: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.redb");
    let mut copy = [MAGIC, data].concat();
    copy.extend(crc32c::crc32c(&copy).to_le_bytes());
    fs::write(path.with_extension("copy"), copy).unwrap();
    if salvage(&path).is_ok() {
        Control::open(&path, Options::default()).unwrap();
    }
}
