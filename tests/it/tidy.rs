//! What the repository promises about itself: who imports whom, where SQL stands, the map.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder with this ending, by its path from the root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let from_root = |path: PathBuf| path.strip_prefix(root()).expect("below the root").display().to_string();
    let mut files: Vec<String> = found.into_iter().map(from_root).filter(|path| path.ends_with(ending)).collect();
    files.sort();
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The layers, lowest first. A module imports from lower layers; within one only where marked.
const LAYERS: [(&[&str], bool); 12] = [
    (&["id", "clock", "random", "problem", "json", "words", "batch", "activity", "others"], true),
    (&["event", "account", "role", "schedule", "subscriber", "delivery", "expectation", "world"], true),
    (&["config"], false),
    (&["vendors", "store", "handover", "telemetry", "sender"], false),
    (&["publish", "register", "watch"], false),
    (&["scanner"], false),
    (&["init", "clocks"], false),
    (&["http", "dispatch", "receiver"], false),
    (&["app", "bench"], false),
    (&["embedded"], false),
    (&["cli"], false),
    (&["main", "lib"], false),
];

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|(modules, _)| modules.contains(&module));
    found.unwrap_or_else(|| panic!("the module {module} has no layer: add it in tests/it/tidy.rs and ARCHITECTURE.md"))
}

fn module(path: &str) -> String {
    let rest = path.strip_prefix("src/").expect("a source file");
    rest.split('/').next().expect("a name").trim_end_matches(".rs").to_owned()
}

/// The modules that a file names by `crate::`, in use lines and in paths.
fn imports(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let found: BTreeSet<String> = code.flat_map(|line| line.split("crate::").skip(1)).map(name).collect();
    found.into_iter().filter(|module| !module.is_empty()).collect()
}

#[test]
fn imports_go_down_only() {
    let mut seen = 0;
    for path in files("src", ".rs") {
        let own = module(&path);
        // The tests of a pure module may draw from chance.
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for imported in imports(code).into_iter().filter(|imported| *imported != own) {
            let (from, to) = (layer(&own), layer(&imported));
            let allowed = to < from || (to == from && LAYERS[from].1);
            assert!(allowed, "{path} imports crate::{imported}, which is not below it");
            assert!(own != "dispatch" || imported != "publish", "dispatch does not use publish");
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} imports were found");
}

#[test]
fn sql_stands_in_the_store_only() {
    for path in files("src", ".rs") {
        let allowed = path.starts_with("src/store/") || path == "src/id.rs";
        assert!(allowed || !read(&path).contains("sqlx::"), "{path} uses sqlx");
    }
}

#[test]
fn only_the_sender_connects_to_receivers() {
    for path in files("src", ".rs") {
        let text = read(&path);
        let allowed = matches!(
            path.as_str(),
            "src/sender/mod.rs"
                | "src/sender/preflight.rs"
                | "src/sender/resolve.rs"
                | "src/cli/client.rs"
                | "src/bench/load.rs"
        );
        for client in ["reqwest::Client", "hyper_util::client", "TcpStream::connect"] {
            assert!(allowed || !text.contains(client), "{path} uses {client}");
        }
    }
}

#[test]
fn the_map_names_every_file_and_nothing_else() {
    let map = read("ARCHITECTURE.md");
    let tree = map.split("```").nth(1).expect("ARCHITECTURE.md has its map in its first block");
    let mut named = BTreeSet::new();
    let mut folder = String::new();
    for line in tree.lines().filter(|line| !line.trim().is_empty()) {
        // The names stand before two spaces; what follows is the description.
        let names = line.trim_start().split("  ").next().unwrap_or_default();
        let is_nested = line.starts_with("    ");
        for name in names.split(' ').filter(|name| !name.is_empty()) {
            if !is_nested && name.ends_with('/') {
                folder = name.to_owned();
                named.insert(name.to_owned());
            } else if is_nested {
                named.insert(format!("{folder}{name}"));
            } else {
                named.insert(name.to_owned());
            }
        }
    }
    for name in &named {
        assert!(root().join(name).exists(), "ARCHITECTURE.md names {name}, which does not exist");
    }
    for path in files("src", ".rs").into_iter().chain(files("tests/it", ".rs")) {
        let is_named = named.contains(&path)
            || path
                .match_indices('/')
                .any(|(end, _)| named.contains(&path[..=end]) && !matches!(&path[..=end], "src/" | "tests/it/"));
        assert!(is_named, "ARCHITECTURE.md does not name {path}");
    }
}

#[test]
fn the_library_lists_every_module() {
    let library = read("src/lib.rs");
    let modules: BTreeSet<String> =
        files("src", ".rs").iter().map(|path| module(path)).filter(|name| !matches!(&**name, "main" | "lib")).collect();
    for module in modules {
        assert!(library.contains(&format!("pub mod {module};")), "src/lib.rs does not list {module}");
    }
}

#[test]
fn no_source_file_has_grown_past_400_lines() {
    for path in files("src", ".rs") {
        let lines = read(&path).lines().count();
        assert!(lines <= 400, "{path} has {lines} lines: look for a second noun");
    }
}

/// A migration's tables, indexes and columns, without what must differ between the databases.
fn shape(migration: &str) -> String {
    let code: Vec<&str> = migration.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    code.join("\n")
        .replace(" collate \"C\"", "")
        .replace(" without rowid", "")
        .replace("bigint", "integer")
        .replace("bytea", "blob")
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| {
        files(folder, ".sql")
            .iter()
            .map(|path| path.rsplit('/').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let migrations = names("migrations/sqlite");
    assert_eq!(migrations, names("migrations/postgres"));
    assert!(!migrations.is_empty());
    for name in migrations {
        let [sqlite, postgres] =
            ["sqlite", "postgres"].map(|folder| shape(&read(&format!("migrations/{folder}/{name}"))));
        assert_eq!(sqlite, postgres, "{name}");
    }
}
