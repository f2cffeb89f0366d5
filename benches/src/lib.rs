//! Nothing but a place for the benches beside this folder: one file a subject, run with
//! `cargo bench -p pilothouse-benches --bench NAME`. What they measured, and on what, stands in
//! `docs/performance.md`.
