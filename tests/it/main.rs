//! The behaviour of scanhook, through the front door where possible, on both databases.

mod support;

mod bad_input;
mod cli;
mod daemon;
mod dialects;
mod dispatch;
mod publish;
mod reading;
mod store;
mod subscribers;
mod tidy;
