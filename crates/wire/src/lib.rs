//! Bytes to words and back.
