//! Init files: YAML that says which accounts, subscribers, targets, schedules and runs are there
//! from the start. Reading and checking them; `apply` makes what they say.
//!
//! Invariant: all files are read and checked wholly before anything of them is applied.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sha2::{Digest, Sha256};

mod apply;
mod node;

pub use apply::{Error, Parts, apply};

use crate::account::{ApiKey, NewAccount, NewClock};
use crate::id::AccountId;
use crate::problem::{FieldProblem, quote};
use crate::random::Chance;
use crate::register::{NewSubscriber, Unusable, subscriber};
use crate::scanner::Refusal;
use crate::scanner::scenario::{Fault, RunToStart};
use crate::scanner::targets::{NewTarget, check_target};
use crate::store::MadeKind;
use crate::world::ticks::NewSchedule;
use node::Node;

/// The longest init file, in bytes.
const LONGEST_FILE: u64 = 4 * 1024 * 1024;

/// What an init file says.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Contents {
    /// These four are of the default account.
    subscribers: Vec<NewSubscriber>,
    targets: Vec<NewTarget>,
    schedules: Vec<NewSchedule>,
    scenarios: Vec<RunToStart>,
    accounts: Vec<Section>,
}

/// An account with what is in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    name: String,
    api_key: Option<ApiKey>,
    clock: Option<NewClock>,
    #[serde(default)]
    subscribers: Vec<NewSubscriber>,
    #[serde(default)]
    targets: Vec<NewTarget>,
    #[serde(default)]
    schedules: Vec<NewSchedule>,
    #[serde(default)]
    scenarios: Vec<RunToStart>,
}

/// One thing that an init file wants to be there.
struct Entry {
    /// Where it stands in the file.
    pointer: String,
    /// Of what is said of it, and of its account.
    digest: String,
    /// The place of its account among the file's; none is the default account.
    account: Option<usize>,
    wanted: Wanted,
}

enum Wanted {
    Account(NewAccount),
    Subscriber(NewSubscriber),
    Target(NewTarget),
    Schedule(NewSchedule),
    Run(RunToStart),
}

impl Wanted {
    fn kind(&self) -> MadeKind {
        match self {
            Self::Account(_) => MadeKind::Account,
            Self::Subscriber(_) => MadeKind::Subscriber,
            Self::Target(_) => MadeKind::Target,
            Self::Schedule(_) => MadeKind::Schedule,
            Self::Run(_) => MadeKind::Run,
        }
    }

    /// All that is wrong with it, whatever the database holds.
    fn check(&self, now: DateTime<Utc>) -> Vec<FieldProblem> {
        match self {
            Self::Account(new) => {
                let mut problems = new.check();
                if new.api_key.is_none() {
                    let reason = "is missing: a key that is made here could be shown to nobody; choose one";
                    problems.push(FieldProblem::new("/api_key", reason));
                }
                problems
            }
            // What is made here is thrown away, so its chance does not matter.
            Self::Subscriber(new) => {
                unusable(subscriber(new.clone(), AccountId::DEFAULT, now, &Chance::from_seed(0)).err())
            }
            Self::Target(new) => check_target(new),
            Self::Schedule(new) => new.check(now),
            Self::Run(new) => new.scenario().err().map(|refusal| refused(refusal, "/name")).unwrap_or_default(),
        }
    }
}

fn unusable(unusable: Option<Unusable>) -> Vec<FieldProblem> {
    match unusable {
        None => Vec::new(),
        Some(Unusable::UnknownVendor(reason)) => vec![FieldProblem::new("/vendor", reason)],
        Some(Unusable::Fields(problems)) => problems,
    }
}

/// A refusal as problems of fields; `pointer` is the field that one without a field is about.
fn refused(refusal: Refusal, pointer: &str) -> Vec<FieldProblem> {
    match refusal {
        Refusal::Invalid(problems) => problems,
        Refusal::NotFound(reason) | Refusal::Conflict(reason) => vec![FieldProblem::new(pointer, reason)],
    }
}

/// An init file that has been read and checked.
pub struct InitFile {
    /// Its name without the folders: by it the database knows the file.
    pub name: String,
    path: PathBuf,
    hash: String,
    entries: Vec<Entry>,
    tree: Node,
}

impl fmt::Debug for InitFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "InitFile({})", self.name)
    }
}

/// All that is wrong with init files; the texts are for the user.
#[derive(Debug)]
pub struct Faults(Vec<(PathBuf, Fault)>);

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the init files cannot be applied, and nothing of them was:")?;
        self.0.iter().try_for_each(|(path, fault)| match fault.line {
            0 => write!(formatter, "\n  {}: {}", path.display(), fault.reason),
            _ => write!(formatter, "\n  {}:{fault}", path.display()),
        })
    }
}

impl std::error::Error for Faults {}

/// Reads and checks init files; of a folder, all `*.yaml` and `*.yml` in the order of their names.
pub fn read(paths: &[PathBuf], now: DateTime<Utc>) -> Result<Vec<InitFile>, Faults> {
    let mut faults = Vec::new();
    let mut files: Vec<InitFile> = Vec::new();
    for path in paths {
        let found = find(path).unwrap_or_else(|reason| {
            faults.push((path.clone(), whole(reason)));
            Vec::new()
        });
        for path in found {
            match InitFile::read(&path, now) {
                Ok(file) if files.iter().any(|other| other.name == file.name) => {
                    let reason = format!("there are two files {}; they are told apart by name", quote(&file.name));
                    faults.push((path, whole(reason)));
                }
                Ok(file) => files.push(file),
                Err(wrong) => faults.extend(wrong.into_iter().map(|fault| (path.clone(), fault))),
            }
        }
    }
    if faults.is_empty() { Ok(files) } else { Err(Faults(faults)) }
}

fn whole(reason: String) -> Fault {
    Fault { line: 0, column: 0, reason }
}

fn find(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = path.read_dir().and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries.map_err(|error| format!("cannot be read: {error}"))?;
    let is_init = |path: &PathBuf| {
        let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        is_yaml && !is_hidden && path.is_file()
    };
    let mut found: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_init).collect();
    found.sort();
    if found.is_empty() {
        Err("has no *.yaml or *.yml; name a folder that has, or a file".to_owned())
    } else {
        Ok(found)
    }
}

impl InitFile {
    fn read(path: &Path, now: DateTime<Utc>) -> Result<Self, Vec<Fault>> {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        if size > LONGEST_FILE {
            return Err(vec![whole(format!("is longer than {LONGEST_FILE} bytes; split it"))]);
        }
        let text = std::fs::read_to_string(path).map_err(|error| vec![whole(format!("cannot be read: {error}"))])?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let hash = hex::encode(Sha256::digest(&text));
        let tree: Node = serde_saphyr::from_str(&text).map_err(|error| vec![Fault::of_yaml(&error)])?;
        if tree.is_nothing() {
            return Ok(Self { name, path: path.to_owned(), hash, entries: Vec::new(), tree });
        }
        let contents = serde_saphyr::from_str::<Contents>(&text).map_err(|error| {
            let mut fault = Fault::of_yaml(&error);
            let field = tree.pointer_at(fault.line, fault.column).filter(|pointer| !pointer.is_empty());
            fault.reason = FieldProblem::new(field.unwrap_or_default(), fault.reason).to_string();
            vec![fault]
        })?;
        let file = Self { name, path: path.to_owned(), hash, entries: entries(contents, &tree), tree };
        let mut faults = file.twice();
        for entry in &file.entries {
            faults.extend(entry.wanted.check(now).into_iter().map(|problem| file.fault(&entry.pointer, &problem)));
        }
        if faults.is_empty() { Ok(file) } else { Err(faults) }
    }

    /// What is wrong with a field of an entry, and where the field stands.
    fn fault(&self, entry: &str, problem: &FieldProblem) -> Fault {
        let pointer = format!("{entry}{}", problem.pointer);
        let (line, column) = self.tree.place(&pointer);
        Fault { line, column, reason: FieldProblem::new(pointer, &*problem.reason).to_string() }
    }

    /// Targets and keys that the file names twice.
    fn twice(&self) -> Vec<Fault> {
        let mut seen: BTreeMap<(&str, Option<usize>, &str), &str> = BTreeMap::new();
        let mut faults = Vec::new();
        for entry in &self.entries {
            let (field, account, value) = match &entry.wanted {
                Wanted::Target(target) => ("/address", entry.account, target.address.as_str()),
                Wanted::Account(NewAccount { api_key: Some(key), .. }) => ("/api_key", None, key.reveal()),
                _ => continue,
            };
            if let Some(first) = seen.insert((field, account, value), &entry.pointer) {
                let (line, _) = self.tree.place(first);
                let reason = format!("is the same as in line {line}; leave one of them out");
                faults.push(self.fault(&entry.pointer, &FieldProblem::new(field, reason)));
            }
        }
        faults
    }
}

/// All that a file wants, in the order in which it is made: first what gets webhooks, then what
/// may cause them.
fn entries(contents: Contents, tree: &Node) -> Vec<Entry> {
    let Contents { subscribers, targets, schedules, scenarios, accounts } = contents;
    let mut entries = Vec::new();
    let own = (subscribers, targets, schedules, scenarios);
    add_holdings(&mut entries, tree, "", (None, ""), own);
    for (index, section) in accounts.into_iter().enumerate() {
        let pointer = format!("/accounts/{index}");
        let digest = tree.digest(&pointer, &["name", "api_key", "clock"]);
        let Section { name, api_key, clock, subscribers, targets, schedules, scenarios } = section;
        let wanted = Wanted::Account(NewAccount { name, api_key, clock });
        entries.push(Entry { pointer: pointer.clone(), digest: digest.clone(), account: Some(index), wanted });
        let own = (subscribers, targets, schedules, scenarios);
        add_holdings(&mut entries, tree, &pointer, (Some(index), &digest), own);
    }
    entries
}

type Holdings = (Vec<NewSubscriber>, Vec<NewTarget>, Vec<NewSchedule>, Vec<RunToStart>);

fn add_holdings(
    entries: &mut Vec<Entry>,
    tree: &Node,
    within: &str,
    (account, account_digest): (Option<usize>, &str),
    (subscribers, targets, schedules, scenarios): Holdings,
) {
    let mut add = |list: &str, wanted: Vec<Wanted>| {
        for (index, wanted) in wanted.into_iter().enumerate() {
            let pointer = format!("{within}/{list}/{index}");
            let own = tree.digest(&pointer, &[]);
            let digest = hex::encode(Sha256::digest(format!("{account_digest}/{list}/{own}")));
            entries.push(Entry { pointer, digest, account, wanted });
        }
    };
    add("subscribers", subscribers.into_iter().map(Wanted::Subscriber).collect());
    add("targets", targets.into_iter().map(Wanted::Target).collect());
    add("schedules", schedules.into_iter().map(Wanted::Schedule).collect());
    add("scenarios", scenarios.into_iter().map(Wanted::Run).collect());
}
