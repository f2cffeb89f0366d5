//! Rules and forms as tables.

mod forms;
mod registry;
mod rules;
mod running;
