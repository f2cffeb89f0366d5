//! The series store.
