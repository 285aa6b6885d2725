//! The scenarios that come with scanhook: each a case that consumers get wrong.

/// A scenario that is compiled in.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    pub name: &'static str,
    /// Its YAML, also under `examples/scenarios`.
    pub source: &'static str,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        /// Every scenario that comes with scanhook.
        pub const ALL: &[Shipped] = &[$(Shipped {
            name: $name,
            source: include_str!(concat!("../../../examples/scenarios/", $name, ".yaml")),
        }),+];
    };
}

shipped!(
    "first-scan",
    "clean-scan",
    "rescan-closes-risks",
    "failed-scan",
    "cancelled-scan",
    "target-unreachable",
    "flapping-risk",
    "storm",
    "completed-before-started",
    "late-events",
    "certificate-life",
    "ports-and-banners",
    "website-elements",
    "users-and-targets",
    "pci-report",
    "a-week-in-the-life",
);

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Shipped> {
    ALL.iter().find(|shipped| shipped.name == name)
}
