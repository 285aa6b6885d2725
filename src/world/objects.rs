//! Objects: whatever a world holds, by kind. Each is stored as one JSON document.

use std::sync::Arc;

use super::item::Item;
use super::nouns::{PciReport, Project, Run, RunState, Scan, Schedule, Target, User, Weakness};
use crate::id::ObjectId;
use crate::words::words;

words!(
    /// What kind of object it is.
    #[derive(PartialOrd, Ord)]
    Kind {
        User = "user",
        Target = "target",
        Weakness = "weakness",
        Scan = "scan",
        Schedule = "schedule",
        Run = "run",
        PciReport = "pci_report",
        Project = "project",
        Item = "item",
    }
);

macro_rules! objects {
    ($($kind:ident),+) => {
        /// Anything that a world holds.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Object { $($kind(Arc<$kind>)),+ }

        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(Arc::new(object))
            }
        }

        impl From<Arc<$kind>> for Object {
            fn from(object: Arc<$kind>) -> Self {
                Self::$kind(object)
            }
        }

        impl TryFrom<Object> for Arc<$kind> {
            /// An object of another kind.
            type Error = Object;
            fn try_from(object: Object) -> Result<Self, Object> {
                match object {
                    Object::$kind(object) => Ok(object),
                    other => Err(other),
                }
            }
        })+

        impl Object {
            /// Its id.
            pub fn id(&self) -> ObjectId {
                match self { $(Self::$kind(object) => object.id),+ }
            }

            /// Its number among its kind; of a weakness, within its target.
            pub fn number(&self) -> u64 {
                match self { $(Self::$kind(object) => object.number),+ }
            }

            /// What kind it is.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),+ }
            }

            /// Its document.
            pub fn to_json(&self) -> String {
                match self { $(Self::$kind(object) => serde_json::to_string(&**object)),+ }
                    .expect("objects of a world serialise")
            }

            /// Reads a document of this kind.
            pub fn from_json(kind: Kind, json: &str) -> serde_json::Result<Self> {
                Ok(match kind { $(Kind::$kind => Self::$kind(Arc::new(serde_json::from_str(json)?))),+ })
            }
        }
    };
}

objects!(User, Target, Weakness, Scan, Schedule, Run, PciReport, Project, Item);

impl Object {
    /// The target it belongs to.
    pub fn target_id(&self) -> Option<ObjectId> {
        match self {
            Self::Weakness(weakness) => Some(weakness.target_id),
            Self::Scan(scan) => Some(scan.target_id),
            Self::Item(item) => item.target_id,
            _ => None,
        }
    }

    /// Whether it cannot change any more, and nothing that changes needs it.
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Scan(scan) => scan.state.has_ended() && !scan.is_named,
            Self::Run(run) => run.state != RunState::Running,
            Self::Target(target) => target.deleted_at.is_some(),
            Self::Weakness(weakness) => weakness.is_gone,
            Self::Schedule(schedule) => !schedule.is_active,
            Self::Item(item) => item.is_fixed || item.deleted_at.is_some(),
            // Users who were removed are few, and vendors still show them.
            Self::User(_) | Self::PciReport(_) | Self::Project(_) => false,
        }
    }
}
