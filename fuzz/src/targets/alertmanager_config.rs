//! Configurations, hosted ones and those of files, and what of them is shown.

use pilothouse_alertmanager::{Config, Document};
use pilothouse_model::limits::Limits;

pub fn run(data: &[u8]) {
    let _ = Document::read(data, &Limits::default());
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = Config::load(text) {
        // What is shown can be checked again, as amtool does.
        let _ = Config::load(&config.shown);
    }
}
