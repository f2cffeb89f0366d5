//! Tests of the whole by stepped time: hours of alerting in milliseconds.

mod bench;
mod config;
mod model;
mod restart;
mod scale;
mod timing;
mod world;
