//! Synthetic checks.
//!
//! Reading order: [`words`] (what a check, a probe and a tenant are), [`validate`](mod@validate)
//! (which of them hold), [`registry`] (who has which).

pub mod registry;
pub mod validate;
pub mod words;

#[cfg(test)]
mod tests;
