//! LogQL: parse, check, plan and run over any source of entries.
