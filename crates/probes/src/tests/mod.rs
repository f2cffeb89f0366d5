//! Rules and forms as tables.

mod accounting;
mod forbidden;
mod forms;
mod hanging;
mod registry;
mod rules;
mod running;
