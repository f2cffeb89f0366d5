//! Blocks: some thousand entries of a few streams, as they lie on the disk.
