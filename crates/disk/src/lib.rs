//! Files, redb and the write-ahead log, opened one way.
