//! Synthetic checks.
//!
//! Reading order: [`words`] (what a check, a probe and a tenant are), [`validate`](mod@validate)
//! (which of them hold).

pub mod validate;
pub mod words;

#[cfg(test)]
mod tests;
