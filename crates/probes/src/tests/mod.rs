//! Rules and forms as tables.

mod forms;
mod rules;
