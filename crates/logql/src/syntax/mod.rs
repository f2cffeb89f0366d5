//! The language: tokens, tree, parser, printer.

pub mod ast;
pub(crate) mod check;
pub mod duration;
mod lexer;
mod parser;
mod pretty;
mod print;
mod stages;
mod token;

pub use ast::*;
pub use parser::{parse, parse_log, parse_matchers, parse_unchecked};
pub use pretty::pretty;
