//! Rules and forms as tables.

mod accounting;
mod forbidden;
mod forms;
mod registry;
mod rules;
mod running;
