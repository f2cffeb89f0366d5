//! Synthetic checks.
//!
//! Reading order: [`words`] (what a check, a probe and a tenant are), [`validate`](mod@validate)
//! (which of them hold), [`registry`] (who has which), [`run`] (who runs, and what
//! becomes of it), [`probe`] (how each kind measures), [`messages`] (what
//! private probes are told), [`alerting`] (rules that follow from checks), [`status`] (what pages
//! show of them), [`declared`] (checks in a configuration file).

pub mod alerting;
pub mod declared;
pub mod messages;
pub mod probe;
pub mod registry;
pub mod run;
pub mod status;
pub mod validate;
pub mod words;

#[cfg(test)]
mod tests;
