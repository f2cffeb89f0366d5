//! Rules and forms as tables.

mod forbidden;
mod forms;
mod registry;
mod rules;
mod running;
