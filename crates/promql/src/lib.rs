//! PromQL: check, plan, evaluate.
