//! An event: something the vendor says has happened. Immutable.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::id::{AccountId, EventId};
use crate::problem::quote;

/// Whose webhooks are emulated.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// Standard Webhooks: a plain dispatcher, any event type.
    Standard,
    /// HostedScan.
    Hostedscan,
    /// Halo Security.
    Halo,
    /// Probely (Snyk API & Web).
    Probely,
}

impl Vendor {
    /// Every vendor, in the order they are listed.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Hostedscan, Self::Halo, Self::Probely];

    /// The vendor's name in the API, the CLI, the settings and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Hostedscan => "hostedscan",
            Self::Halo => "halo",
            Self::Probely => "probely",
        }
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A vendor that scanhook does not play.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown vendor {}; known are {known}", quote(.0), known = Vendor::ALL.map(Vendor::as_str).join(", "))]
pub struct UnknownVendor(pub String);

impl FromStr for Vendor {
    type Err = UnknownVendor;
    fn from_str(text: &str) -> Result<Self, UnknownVendor> {
        Self::ALL.into_iter().find(|vendor| vendor.as_str() == text).ok_or_else(|| UnknownVendor(text.to_owned()))
    }
}

/// Something the vendor says has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    pub account_id: AccountId,
    pub vendor: Vendor,
    /// The id in the vendor's own shape, as receivers see it. Unique within the account.
    pub vendor_event_id: String,
    pub occurred_at: DateTime<Utc>,
    /// The vendor's own name for this kind of event, such as `risk.opened`.
    pub event_type: String,
    /// What `content` describes, such as `risk`.
    pub object_type: String,
    /// JSON text, byte for byte as it was published.
    pub content: String,
    /// The publisher's own name for this event: a repeat stores nothing.
    pub idempotency_key: Option<String>,
    pub created_at: DateTime<Utc>,
    /// What the vendor's body needs beside the event, as it was known at publish (Probely's
    /// `webhooks`); JSON text.
    pub at_publish: Option<String>,
}
