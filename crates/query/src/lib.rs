//! What both query languages stand on: number kernels and the algebra of native histograms.
//!
//! Nothing here knows a language, a store or a clock. Every function takes plain values of the
//! crate `model` and gives plain values back; what a user has to be told (a bucket layout that
//! was reconciled, a counter that was no counter) comes back as a typed note, and the languages
//! make their annotations of it.
//!
//! Reading order: [`steps`], [`kahan`], [`arithmetic`], [`window`], [`vectors`], then [`histogram`];
//! for logs and texts [`go_number`], [`units`] and [`template`].

pub mod arithmetic;
pub mod go_number;
pub mod histogram;
pub mod kahan;
pub mod steps;
pub mod template;
pub mod units;
pub mod vectors;
pub mod window;
