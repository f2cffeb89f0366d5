//! Tests of the whole by stepped time: hours of alerting in milliseconds.

mod balance;
mod bench;
mod config;
mod inhibition;
mod model;
mod restart;
mod scale;
mod shutdown;
mod timing;
mod world;
