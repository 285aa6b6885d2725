//! What only one vendor knows of: settings of objects, items of its own, and the further targets of
//! HostedScan's scans.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::nouns::TargetKind;
use crate::event::Vendor;
use crate::id::ObjectId;

/// What a vendor's own API has set on an object, in the vendor's words, where no other vendor knows
/// of such a thing.
pub type Settings = BTreeMap<Vendor, Map<String, Value>>;

/// Something that only one vendor has: a label, a report, a login sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub id: ObjectId,
    pub number: u64,
    pub vendor: Vendor,
    /// What it is among the vendor's things, such as `label`.
    pub collection: String,
    /// The target it belongs to, if it belongs to one.
    pub target_id: Option<ObjectId>,
    /// In the vendor's words.
    pub fields: Map<String, Value>,
    /// It never changes, so that only the store keeps it.
    pub is_fixed: bool,
    pub created_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    pub deleted_at: Option<DateTime<Utc>>,
}

/// A further target of a scan, as it was when the scan was queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherTarget {
    pub id: ObjectId,
    pub kind: TargetKind,
    pub address: String,
    /// The scan passes it over.
    pub is_unreachable: bool,
}
