//! What the fuzz targets check, each written once: the runners of `libfuzzer/` call it with inputs
//! of their making, and the tests here with every input that is kept in `corpus/`.

// What cannot be gone on with is a finding.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod choices;
#[cfg(test)]
mod kept;
mod logs;
pub mod targets;
mod text;
mod wire;
