//! The behaviour of scanhook, through the front door where possible, on both databases.

mod support;

mod bad_input;
mod bench;
mod catalogue;
mod cli;
mod clocks;
mod daemon;
mod dialects;
mod dispatch;
mod halo_api;
mod hostedscan_api;
mod isolation;
mod preflight;
mod probely_abuse;
mod probely_api;
mod probely_objects;
mod publish;
mod reading;
mod roles;
mod scenarios;
mod signatures;
mod startup;
mod store;
mod subscribers;
mod tidy;
mod vendor_apis;
mod waiting;
mod why;
mod world;
