//! Applying init files: what they want is worked out first, and then stored in one transaction
//! together with the events that tell of it. So a start that fails leaves nothing half done, and
//! of two processes that start at once, one makes things and the other finds them made.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use tracing::info;

use super::{Entry, Faults, InitFile, Wanted, refused, unusable};
use crate::account::{Account, NewAccount};
use crate::clock::{Clock, format_time};
use crate::id::AccountId;
use crate::problem::FieldProblem;
use crate::publish::{Publisher, Refused};
use crate::random::Chance;
use crate::register::subscriber;
use crate::scanner::scenario::{Fault, RunToStart, run};
use crate::scanner::targets::add_target;
use crate::scanner::{self, Refusal, Scanner, schedules};
use crate::store::{self, Along, AppliedFile, Made, Store};
use crate::subscriber::Subscriber;
use crate::world::World;

/// How often it is tried when other processes get ahead.
const MOST_TRIES: usize = 50;

/// Why init files were not applied. Nothing of them was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Faulty(#[from] Faults),
    #[error("the init files cannot be applied: another account has one of their API keys")]
    KeyTaken,
    #[error("the init files cannot be applied, and nothing of them was")]
    Failed(#[from] scanner::Error),
}

impl From<store::Error> for Error {
    fn from(failure: store::Error) -> Self {
        Self::Failed(failure.into())
    }
}

/// What applying works with.
#[derive(Debug)]
pub struct Parts<'p> {
    pub store: &'p Store,
    pub publisher: &'p Publisher,
    pub scanner: &'p Scanner,
    pub clock: &'p Clock,
    pub chance: &'p Chance,
}

/// Makes what the files want and is not there yet.
pub async fn apply(parts: &Parts<'_>, files: &[InitFile]) -> Result<(), Error> {
    if files.is_empty() {
        return Ok(());
    }
    for _ in 0..MOST_TRIES {
        let known = parts.store.init_files().await?;
        let planned = match Plan::of(parts, files, &known).await {
            // What another process has just made for the same files is not a fault of theirs.
            Err(Error::Faulty(_)) if parts.store.init_files().await? != known => continue,
            planned => planned?,
        };
        let Some((along, events)) = planned else { return Ok(()) };
        let told: Vec<(String, usize)> =
            along.files.iter().map(|(file, _)| (file.name.clone(), file.made.len())).collect();
        match parts.publisher.publish_along(along, events).await {
            Ok(()) => {
                for (name, count) in told {
                    info!(init.file = name, "applied the init file {name}: {count} thing(s) are of it");
                }
                return Ok(());
            }
            Err(Refused::WorldChanged) => (),
            Err(Refused::Database(failure)) if matches!(*failure, store::Error::KeyTaken) => {
                return Err(Error::KeyTaken);
            }
            Err(refused) => return Err(Error::Failed(refused.into())),
        }
    }
    Err(store::Error::WorldChanged.into())
}

type Events = Vec<(AccountId, crate::publish::NewEvent)>;

/// What is to be stored, as far as it is worked out.
struct Plan<'p> {
    parts: &'p Parts<'p>,
    now: DateTime<Utc>,
    files: Vec<(AppliedFile, Option<String>)>,
    accounts: Vec<(Account, String)>,
    subscribers: Vec<Subscriber>,
    worlds: BTreeMap<AccountId, World>,
    faults: Vec<(PathBuf, Fault)>,
}

impl<'p> Plan<'p> {
    /// What these files want and is not there; none if nothing is missing.
    async fn of(
        parts: &'p Parts<'p>,
        files: &[InitFile],
        known: &[AppliedFile],
    ) -> Result<Option<(Along, Events)>, Error> {
        let mut plan = Self {
            parts,
            now: parts.clock.now(),
            files: Vec::new(),
            accounts: Vec::new(),
            subscribers: Vec::new(),
            worlds: BTreeMap::new(),
            faults: Vec::new(),
        };
        for file in files {
            let known = known.iter().find(|known| known.name == file.name).cloned();
            if known.as_ref().is_none_or(|known| known.hash != file.hash) {
                plan.add_file(file, known).await?;
            }
        }
        if !plan.faults.is_empty() {
            return Err(Faults(plan.faults).into());
        }
        if plan.files.is_empty() {
            return Ok(None);
        }
        // In one order, whatever the order of the files: two processes must not wait in a circle.
        plan.files.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let (mut worlds, mut events) = (Vec::new(), Vec::new());
        for (account_id, mut world) in plan.worlds {
            if let Some((change, told)) = parts.scanner.take_change(account_id, &mut world) {
                worlds.push(change);
                events.extend(told);
            }
        }
        let Self { files, accounts, subscribers, .. } = plan;
        Ok(Some((Along { files, accounts, subscribers, worlds }, events)))
    }

    /// Plans one file: what an earlier text of it has made stays, what is new is made.
    async fn add_file(&mut self, file: &InitFile, known: Option<AppliedFile>) -> Result<(), Error> {
        let replaced = known.as_ref().map(|known| known.hash.clone());
        let known_at = known.as_ref().map(|known| known.applied_at);
        let mut left = known.map(|known| known.made).unwrap_or_default();
        let mut matched: Vec<Option<Made>> = Vec::with_capacity(file.entries.len());
        for entry in &file.entries {
            let is_same = |made: &Made| made.kind == entry.wanted.kind() && made.digest == entry.digest;
            matched.push(left.iter().position(is_same).map(|index| left.remove(index)));
        }
        for made in &left {
            let applied_at = known_at.map(format_time).unwrap_or_default();
            let reason = format!(
                "what this file said here when it was applied at {applied_at} is changed or gone; additions are \
                 applied, but nothing is changed or taken back: put it back as it was, or start with a new database"
            );
            self.faults.push((file.path.clone(), file.fault(&made.pointer, &FieldProblem::new("", reason))));
        }
        if !left.is_empty() {
            return Ok(());
        }
        let mut accounts: BTreeMap<usize, AccountId> = BTreeMap::new();
        let mut made = Vec::with_capacity(matched.len());
        for (entry, known) in file.entries.iter().zip(matched) {
            let account_id = match entry.account.map(|index| accounts.get(&index).copied()) {
                None => AccountId::DEFAULT,
                Some(Some(account_id)) => account_id,
                // The account is what is made here.
                Some(None) if matches!(entry.wanted, Wanted::Account(_)) => AccountId::DEFAULT,
                // Its account could not be made.
                Some(None) => continue,
            };
            let one = match known {
                Some(known) => Some(Made { pointer: entry.pointer.clone(), ..known }),
                None => self.make(file, entry, account_id).await?,
            };
            // What could not be made is a fault, and nothing is stored.
            let Some(one) = one else { continue };
            if let (Wanted::Account(_), Some(index)) = (&entry.wanted, entry.account) {
                accounts.insert(index, one.account_id);
            }
            made.push(one);
        }
        let (name, hash, applied_at) = (file.name.clone(), file.hash.clone(), self.now);
        self.files.push((AppliedFile { name, hash, applied_at, made }, replaced));
        Ok(())
    }

    /// Plans one thing; none if something is wrong with it, which is noted.
    async fn make(&mut self, file: &InitFile, entry: &Entry, account_id: AccountId) -> Result<Option<Made>, Error> {
        let (now, scanner) = (self.now, self.parts.scanner);
        let made: Result<(String, AccountId), Vec<FieldProblem>> = match &entry.wanted {
            Wanted::Account(new) => self.make_account(new).await?.map(|id| (id.to_string(), id)),
            Wanted::Subscriber(new) => {
                let made = subscriber(new.clone(), account_id, now, self.parts.chance);
                made.map_err(|wrong| unusable(Some(wrong))).map(|subscriber| {
                    let id = subscriber.id.to_string();
                    self.subscribers.push(subscriber);
                    (id, account_id)
                })
            }
            Wanted::Target(new) => {
                let added = add_target(self.world(account_id).await?, new.clone(), now);
                added.map(|target| (target.id.to_string(), account_id)).map_err(|refusal| refused(refusal, "/address"))
            }
            Wanted::Schedule(new) => {
                let added = schedules::add(self.world(account_id).await?, new, now);
                added.map(|schedule| (schedule.id.to_string(), account_id)).map_err(|refusal| refused(refusal, ""))
            }
            Wanted::Run(new) => {
                let started = start(scanner, self.world(account_id).await?, new, now);
                started.map(|id| (id, account_id)).map_err(|refusal| refused(refusal, "/name"))
            }
        };
        Ok(match made {
            Ok((id, account_id)) => {
                let (pointer, digest) = (entry.pointer.clone(), entry.digest.clone());
                Some(Made { kind: entry.wanted.kind(), id, account_id, pointer, digest })
            }
            Err(problems) => {
                let fault = |problem| (file.path.clone(), file.fault(&entry.pointer, problem));
                self.faults.extend(problems.iter().map(fault));
                None
            }
        })
    }

    async fn make_account(&mut self, new: &NewAccount) -> Result<Result<AccountId, Vec<FieldProblem>>, Error> {
        let (account, key) = new.make(self.now, self.parts.chance);
        let hash = key.hash();
        let planned: HashSet<&String> = self.accounts.iter().map(|(_, hash)| hash).collect();
        if planned.contains(&hash) || self.parts.store.account_by_key_hash(&hash).await?.is_some() {
            let reason = "another account has this key; choose another";
            return Ok(Err(vec![FieldProblem::new("/api_key", reason)]));
        }
        let id = account.id;
        self.accounts.push((account, hash));
        Ok(Ok(id))
    }

    async fn world(&mut self, account_id: AccountId) -> Result<&mut World, Error> {
        if !self.worlds.contains_key(&account_id) {
            self.worlds.insert(account_id, self.parts.scanner.world(account_id).await?);
        }
        Ok(self.worlds.get_mut(&account_id).expect("it has been put there"))
    }
}

fn start(scanner: &Scanner, world: &mut World, new: &RunToStart, now: DateTime<Utc>) -> Result<String, Refusal> {
    let (source, scenario) = new.scenario()?;
    let new = run::NewRun { source, scenario: &scenario, speed: new.speed };
    run::start(world, scanner.rules(now), &new, now).map(|run| run.id.to_string())
}
