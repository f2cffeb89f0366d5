//! The series store.

pub mod codec;
