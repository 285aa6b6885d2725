//! What else is done to a world by hand: users, PCI reports, projects. Pure.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Refusal;
use crate::problem::{check_text, quote};
use crate::world::{Kind, Object, PciReport, PciState, Project, Settings, User, What, World};

/// Adds a user, or lets one who was removed back in.
pub fn add_user(
    world: &mut World,
    email: &str,
    name: &str,
    settings: Settings,
    at: DateTime<Utc>,
) -> Result<Arc<User>, Refusal> {
    check_text("/email", email, 254).map_err(|problem| Refusal::Invalid(vec![problem]))?;
    if email.split_once('@').is_none_or(|(name, host)| name.is_empty() || host.is_empty()) {
        return Err(Refusal::field("/email", format!("{} is not an e-mail address", quote(email))));
    }
    let by = world.owner(at);
    if world.users().any(|user| user.email == email) {
        return Err(Refusal::Conflict(format!("there is a user {} already", quote(email))));
    }
    let removed = world.objects().find_map(|object| match object {
        Object::User(user) if user.email == email => Some((user.number, user.id, user.created_at)),
        _ => None,
    });
    let (number, id, created_at) = removed.unwrap_or_else(|| {
        let (number, id) = world.next_id(Kind::User, at);
        (number, id, at)
    });
    let (first_name, last_name) = name.split_once(' ').unwrap_or((name, ""));
    let user = Arc::new(User {
        id,
        number,
        email: email.to_owned(),
        first_name: first_name.to_owned(),
        last_name: last_name.to_owned(),
        is_admin: false,
        is_active: true,
        created_at,
        changed_at: at,
        settings,
    });
    world.put(Arc::clone(&user));
    world.tell(at, &by, What::UserAdded(Arc::clone(&user)));
    Ok(user)
}

/// An active user by e-mail address.
pub fn user_by_email(world: &World, email: &str) -> Result<Arc<User>, Refusal> {
    let found = world.users().find(|user| user.email == email).cloned();
    found.ok_or_else(|| Refusal::NotFound(format!("there is no user {} in this account", quote(email))))
}

/// Removes a user, who stays on record.
pub fn remove_user(world: &mut World, email: &str, at: DateTime<Utc>) -> Result<(), Refusal> {
    let user = user_by_email(world, email)?;
    let by = world.owner(at);
    let user = Arc::new(User { is_active: false, changed_at: at, ..User::clone(&user) });
    world.put(Arc::clone(&user));
    world.tell(at, &by, What::UserRemoved(user));
    Ok(())
}

/// Tells that a user has made an API key.
pub fn add_key(world: &mut World, email: &str, at: DateTime<Utc>) -> Result<(), Refusal> {
    let user = user_by_email(world, email)?;
    world.tell(at, &Arc::clone(&user), What::KeyAdded(user));
    Ok(())
}

/// Moves a PCI report on: to approved or rejected, or to this many days before its end.
pub fn move_pci_report(
    world: &mut World,
    name: &str,
    state: Option<PciState>,
    expires_in_days: Option<i64>,
    at: DateTime<Utc>,
) -> Arc<PciReport> {
    let by = world.owner(at);
    let known = world.objects().find_map(|object| match object {
        Object::PciReport(report) if report.name == name => Some(PciReport::clone(report)),
        _ => None,
    });
    let mut report = known.unwrap_or_else(|| {
        let (number, id) = world.next_id(Kind::PciReport, at);
        let state = PciState::Pending;
        PciReport { id, number, name: name.to_owned(), state, approved_at: None, created_at: at }
    });
    if let Some(state) = state {
        report.state = state;
    }
    if report.state == PciState::Approved {
        report.approved_at.get_or_insert(at);
    }
    if expires_in_days.is_some_and(|days| days < 0) {
        report.state = PciState::Expired;
    }
    let report = Arc::new(report);
    world.put(Arc::clone(&report));
    match state {
        Some(PciState::Approved) => world.tell(at, &by, What::PciReportApproved(Arc::clone(&report))),
        Some(PciState::Rejected) => world.tell(at, &by, What::PciReportRejected(Arc::clone(&report))),
        _ => (),
    }
    if let Some(days) = expires_in_days {
        world.tell(at, &by, What::PciReportExpires(Arc::clone(&report), days));
    }
    report
}

/// Changes a project: its engineer, its state, a file more.
pub fn move_project(
    world: &mut World,
    name: &str,
    (engineer, state, file): (Option<String>, Option<String>, Option<String>),
    at: DateTime<Utc>,
) -> Arc<Project> {
    let by = world.owner(at);
    let known = world.objects().find_map(|object| match object {
        Object::Project(project) if project.name == name => Some(Project::clone(project)),
        _ => None,
    });
    let mut project = known.unwrap_or_else(|| {
        let (number, id) = world.next_id(Kind::Project, at);
        let (state, engineer) = ("In Progress".to_owned(), String::new());
        Project { id, number, name: name.to_owned(), state, engineer, files: Vec::new(), created_at: at }
    });
    let state_before = project.state.clone();
    project.engineer = engineer.clone().unwrap_or(project.engineer);
    project.state = state.clone().unwrap_or(project.state);
    project.files.extend(file.clone());
    let project = Arc::new(project);
    world.put(Arc::clone(&project));
    if engineer.is_some() {
        world.tell(at, &by, What::EngineerAssigned(Arc::clone(&project)));
    }
    if let Some(file) = file {
        world.tell(at, &by, What::FileAttached(Arc::clone(&project), file));
    }
    if state.is_some_and(|state| state != state_before) {
        world.tell(at, &by, What::ProjectStateChanged(Arc::clone(&project), state_before));
    }
    project
}
