//! scanhook plays a security-scanning vendor: it stores events, owes each event to every
//! subscriber, and sends it as a webhook that looks exactly as the vendor's own.
//!
//! The modules stand in reading order, from the pure to the acting. ARCHITECTURE.md is the map.

pub mod id;
pub mod clock;
pub mod random;
pub mod problem;
pub mod words;
pub mod json;
pub mod activity;
pub mod others;
pub mod event;
pub mod account;
pub mod role;
pub mod schedule;
pub mod subscriber;
pub mod delivery;
pub mod expectation;
pub mod world;
pub mod vendors;
pub mod config;
pub mod store;
pub mod batch;
pub mod handover;
pub mod register;
pub mod publish;
pub mod scanner;
pub mod clocks;
pub mod sender;
pub mod watch;
pub mod init;
pub mod dispatch;
pub mod http;
pub mod telemetry;
pub mod app;
pub mod embedded;
pub mod receiver;
pub mod bench;
pub mod cli;

pub use embedded::Scanhook;
