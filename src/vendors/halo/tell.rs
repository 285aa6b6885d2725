//! What Halo Security says of a fact. Every one of its 67 event types can come of one.
//!
//! Documented: when six of them come. For the others the subject says it.

use serde_json::{Map, Value};

use super::objects::{
    is_issue, is_website, issue_id, pci_report_id, role, scan_id, severity, target_id, target_name, user_id,
};
use crate::vendors::Told;
use crate::world::observe::{CertificateChange, ElementChange, RegistrationChange};
use crate::world::surface::{Certificate, Element, ElementKind, Registration};
use crate::world::{About, Fact, Observation, PciReport, Project, Scan, Target, TargetKind, User, Weakness, What};

/// How long an approved PCI report is valid, in days. (Documented.)
const PCI_DAYS: i64 = 90;

/// The events that tell of a fact: one, or none.
pub(super) fn tell(fact: &Fact) -> Vec<Told> {
    let told = match &fact.what {
        What::UserAdded(user) => Some(("account-user-add", user_fields(user, true))),
        What::KeyAdded(user) => Some(("account-apikey-add", user_fields(user, false))),
        What::TargetAdded(about) => Some(target_added(&about.target)),
        What::ScanStarted(scan, about) => Some(scan_told(scan, about, "start")),
        What::ScanCompleted(scan, about) => {
            Some(scan_told(scan, about, if scan.is_first { "first" } else { "finish" }))
        }
        What::ScanFailed(scan, about) if is_website(&about.target) => {
            let detail = vec![("detail", scan.plan.reason.clone().into())];
            Some(("target-scan-failed", of_scan("target-scan-failed", detail, scan, &about.target)))
        }
        What::WeaknessDetected(weakness, scan, about) | What::WeaknessReturned(weakness, scan, about) => {
            issue(weakness, scan, &about.target)
        }
        What::Observed(observation, scan, about) => observed(observation, scan, &about.target),
        What::PciReportApproved(report) => Some(("pci-report-approved", pci(report, None))),
        What::PciReportRejected(report) => Some(("pci-report-rejected", pci(report, None))),
        What::PciReportExpires(report, days) => {
            let event_type = match days {
                1.. => "pci-report-expire-soon",
                0 => "pci-report-expire-today",
                _ => "pci-report-expire-past",
            };
            Some((event_type, pci(report, Some(*days))))
        }
        What::EngineerAssigned(project) => {
            let own = vec![("detail", project.engineer.clone().into()), ("engineer", project.engineer.clone().into())];
            Some(("project-engineer", of_project(own, project)))
        }
        What::FileAttached(project, file) => {
            let own = vec![("detail", file.clone().into()), ("file_name", file.clone().into())];
            Some(("project-file", of_project(own, project)))
        }
        What::ProjectStateChanged(project, before) => {
            let mut fields = of_project(vec![("detail", project.state.clone().into())], project);
            fields.push(("state", project.state.clone().into()));
            fields.push(("state_prior", before.clone().into()));
            Some(("project-state", fields))
        }
        _ => None,
    };
    // The schemas have no empty texts.
    let filled = |value: Value| if value == "" { Value::from("-") } else { value };
    let content = |fields: Fields| {
        fields.into_iter().map(|(name, value)| (name.to_owned(), filled(value))).collect::<Map<_, _>>()
    };
    told.map(|(event_type, fields)| Told { event_type, content: content(fields).into() }).into_iter().collect()
}

/// The fields of a content, in the vendor's order, which is the alphabet's.
type Fields = Vec<(&'static str, Value)>;

fn user_fields(user: &User, is_new: bool) -> Fields {
    let email = || Value::from(user.email.clone());
    let mut fields = vec![("detail", email()), ("email", email())];
    if is_new {
        fields.push(("first_name", user.first_name.clone().into()));
        fields.push(("last_name", user.last_name.clone().into()));
        fields.push(("role", role(user).into()));
    }
    fields.push(("user_id", user_id(user).into()));
    fields
}

fn target_added(target: &Target) -> (&'static str, Fields) {
    let address = || Value::from(target.address.clone());
    let id = Value::from(target_id(target));
    match target.kind {
        TargetKind::Domain => ("domain-add", vec![("detail", address()), ("domain", address()), ("domain_id", id)]),
        TargetKind::Network => ("network-add", vec![("detail", address()), ("network", address()), ("network_id", id)]),
        TargetKind::Host | TargetKind::Url => {
            let host = || Value::from(target.host());
            (
                "target-add",
                vec![
                    ("detail", host()),
                    ("target", host()),
                    ("target_id", id),
                    ("target_name", target_name(target).into()),
                ],
            )
        }
    }
}

/// Adds the scan's id and the target's, where the alphabet puts them.
fn of_scan(event_type: &str, mut own: Fields, scan: &Scan, target: &Target) -> Fields {
    let id_name = match event_type.split('-').next() {
        Some("domain") => "domain_id",
        Some("network") => "network_id",
        _ => "target_id",
    };
    own.push(("scan_id", scan_id(scan.id).into()));
    own.push((id_name, target_id(target).into()));
    own.sort_by_key(|(name, _)| *name);
    own
}

fn scan_told(scan: &Scan, about: &About, end: &str) -> (&'static str, Fields) {
    let target = &about.target;
    let address = || Value::from(target.address.clone());
    let (names, own) = match target.kind {
        TargetKind::Domain => (
            ["domain-scan-start", "domain-scan-first", "domain-scan-finish"],
            vec![("detail", address()), ("domain", address())],
        ),
        TargetKind::Network => (
            ["network-scan-start", "network-scan-first", "network-scan-finish"],
            vec![("detail", address()), ("network", address())],
        ),
        TargetKind::Host | TargetKind::Url => {
            (["target-scan-start", "target-scan-first", "target-scan-finish"], Vec::new())
        }
    };
    let name = names.into_iter().find(|name| name.ends_with(end)).unwrap_or(names[0]);
    (name, of_scan(name, own, scan, target))
}

fn issue(weakness: &Weakness, scan: &Scan, target: &Target) -> Option<(&'static str, Fields)> {
    let definition = weakness.definition();
    if !is_issue(weakness, target) {
        return None;
    }
    let fields = vec![
        ("detail", definition.title.clone().into()),
        ("issue_id", issue_id(definition).into()),
        ("issue_name", definition.title.clone().into()),
        ("scan_id", scan_id(scan.id).into()),
        ("severity", severity(definition.threat_level).into()),
        ("target_id", target_id(target).into()),
    ];
    Some(("issue-add", fields))
}

fn observed(observation: &Observation, scan: &Scan, target: &Target) -> Option<(&'static str, Fields)> {
    let text = |text: &String| Value::from(text.clone());
    let port_detail = |port: u16, protocol: &str| Value::from(format!("{port}/{protocol}"));
    let (event_type, own) = match observation {
        Observation::PortOpened(port) => {
            let detail = port_detail(port.port, &port.protocol);
            let (number, protocol) = (port.port.into(), text(&port.protocol));
            let own =
                vec![("detail", detail), ("port", number), ("protocol", protocol), ("service", text(&port.service))];
            ("firewall-port-add", own)
        }
        Observation::BannerChanged(port, before) => {
            let detail = port_detail(port.port, &port.protocol);
            let (number, protocol) = (port.port.into(), text(&port.protocol));
            let banners = [("banner", text(&port.banner)), ("banner_prior", text(before))];
            let own = [("detail", detail), ("port", number), ("protocol", protocol)];
            ("firewall-banner-change", banners.into_iter().chain(own).collect())
        }
        Observation::TechnologySeen(one, is_first) => {
            let event_type = if *is_first { "technology-add-first-scan" } else { "technology-add" };
            let version = ("version", text(&one.version));
            (event_type, vec![("detail", text(&one.name)), ("technology", text(&one.name)), version])
        }
        Observation::Certificate(certificate, change) => certificate_told(certificate, *change, &target.host()),
        Observation::Registration(registration, change) => registration_told(registration, *change),
        Observation::Element(element, change) => element_told(element, *change)?,
        Observation::EmailSeen(email) => {
            ("website-link-new-email", vec![("detail", text(email)), ("email", text(email))])
        }
        Observation::PhoneSeen(phone) => {
            ("website-link-new-phone", vec![("detail", text(phone)), ("phone", text(phone))])
        }
        Observation::HostSeen(host) => {
            let domain = ("domain", text(&target.address));
            ("domain-host-add", vec![("detail", text(host)), domain, ("host", text(host))])
        }
        Observation::TldSeen(tld) => {
            let domain = ("domain", text(&target.address));
            let end = tld.split_once('.').map_or(tld.as_str(), |(_, end)| end);
            ("domain-tld-add", vec![("detail", text(tld)), domain, ("tld", end.into())])
        }
        Observation::AddressSeen(ip) => ("network-ip-add", vec![("detail", text(ip)), ("ip", text(ip))]),
        Observation::AddressGone(ip) => ("network-ip-remove", vec![("detail", text(ip)), ("ip", text(ip))]),
        Observation::NetworkPortOpened { ip, port, protocol }
        | Observation::NetworkPortClosed { ip, port, protocol } => {
            let is_open = matches!(observation, Observation::NetworkPortOpened { .. });
            let event_type = if is_open { "network-port-add" } else { "network-port-remove" };
            let detail = port_detail(*port, protocol);
            (
                event_type,
                vec![("detail", detail), ("ip", text(ip)), ("port", (*port).into()), ("protocol", text(protocol))],
            )
        }
    };
    Some((event_type, of_scan(event_type, own, scan, target)))
}

fn certificate_told(certificate: &Certificate, change: CertificateChange, host: &str) -> (&'static str, Fields) {
    let issuer = certificate.issuer.clone();
    let country = certificate.issuer_country.clone();
    let expires = certificate.expires_at.format("%Y-%m-%d").to_string();
    let names = || {
        vec![
            ("cert_issuer_c", Value::from(country.clone())),
            ("cert_issuer_cn", issuer.clone().into()),
            ("cert_subject_cn", certificate.subject.clone().into()),
            ("host", host.into()),
        ]
    };
    let with = |more: Fields| names().into_iter().chain(more).collect();
    let ends = |days: i64| {
        with(vec![
            ("detail", expires.clone().into()),
            ("expires_date", expires.clone().into()),
            ("expires_in_days", days.into()),
        ])
    };
    match change {
        CertificateChange::NewIssuer => ("website-cert-new-issuer", with(vec![("detail", issuer.clone().into())])),
        CertificateChange::NewCountry => ("website-cert-new-country", with(vec![("detail", country.clone().into())])),
        CertificateChange::Expiring(days) => ("website-cert-expiring", ends(days)),
        CertificateChange::Expired(days) => ("website-cert-expired", ends(days)),
        CertificateChange::Risk => {
            let reason = certificate.risk_reason.clone();
            ("website-cert-risk", vec![("risk", certificate.risk.into()), ("risk_reason", reason.into())])
        }
    }
}

fn registration_told(registration: &Registration, change: RegistrationChange) -> (&'static str, Fields) {
    let domain = ("domain", Value::from(registration.domain.clone()));
    let expires = registration.expires_at.format("%Y-%m-%d").to_string();
    let ends = |days: i64| {
        let (detail, date) = (expires.clone().into(), expires.clone().into());
        vec![("detail", detail), domain.clone(), ("expires_date", date), ("expires_in_days", days.into())]
    };
    match change {
        RegistrationChange::Changed => ("website-whois-change", vec![("detail", "registrar".into()), domain]),
        RegistrationChange::Expiring(days) => ("website-whois-expiring", ends(days)),
        RegistrationChange::Expired(days) => ("website-whois-expired", ends(days)),
    }
}

/// What is told of a change of an element; not every kind has every change.
fn element_told(element: &Element, change: ElementChange) -> Option<(&'static str, Fields)> {
    use ElementChange::{MonitoredChanged, NewCountry, OutOfScope, Risk};
    use ElementKind::{Cookie, Download, Form, Header, Link, Script, Traffic};
    let event_type = match (element.kind, change) {
        (Cookie, MonitoredChanged) => "website-cookie-monitor-change",
        (Cookie, NewCountry) => "website-cookie-new-country",
        (Cookie, OutOfScope) => "website-cookie-oos",
        (Cookie, Risk) => "website-cookie-risk",
        (Download, MonitoredChanged) => "website-download-monitor-change",
        (Download, NewCountry) => "website-download-new-country",
        (Download, OutOfScope) => "website-download-oos",
        (Download, Risk) => "website-download-risk",
        (Form, MonitoredChanged) => "website-form-monitor-change",
        (Form, NewCountry) => "website-form-new-country",
        (Form, OutOfScope) => "website-form-oos",
        (Form, Risk) => "website-form-risk",
        (Header, MonitoredChanged) => "website-header-monitor-change",
        (Header, Risk) => "website-header-risk",
        (Link, NewCountry) => "website-link-new-country",
        (Link, OutOfScope) => "website-link-oos",
        (Link, Risk) => "website-link-risk",
        (Script, MonitoredChanged) => "website-script-monitor-change",
        (Script, NewCountry) => "website-script-new-country",
        (Script, OutOfScope) => "website-script-oos",
        (Script, Risk) => "website-script-risk",
        (Traffic, NewCountry) => "website-traffic-new-country",
        (Traffic, OutOfScope) => "website-traffic-oos",
        (Header, NewCountry | OutOfScope) | (Link, MonitoredChanged) | (Traffic, MonitoredChanged | Risk) => {
            return None;
        }
    };
    let name = || Value::from(element.name.clone());
    let mut fields = match element.kind {
        Cookie => vec![("cookie_name", name())],
        Download => vec![("download_url", name())],
        Form => vec![("form_action", name()), ("form_method", "post".into())],
        Header => vec![("header_name", name())],
        Link => vec![("link_url", name())],
        Script => vec![("script_url", name())],
        Traffic => Vec::new(),
    };
    let host = || Value::from(element.host.clone());
    let country = || Value::from(element.country.clone());
    fields.extend(match change {
        MonitoredChanged => vec![("detail", name()), ("host", host())],
        NewCountry => vec![("country", country()), ("detail", country()), ("host", host())],
        OutOfScope => vec![("detail", host()), ("host", host())],
        Risk => vec![("risk", element.risk.into()), ("risk_reason", element.risk_reason.clone().into())],
    });
    Some((event_type, fields))
}

fn pci(report: &PciReport, days: Option<i64>) -> Fields {
    let mut fields = Vec::new();
    if let Some(approved_at) = report.approved_at {
        fields.push(("approved_date", approved_at.format("%Y-%m-%d").to_string().into()));
    }
    if let Some(days) = days {
        fields.push(("approved_days_ago", PCI_DAYS.saturating_sub(days).into()));
        fields.push(("expires_in_days", days.into()));
    }
    fields.push(("pci_report_id", pci_report_id(report).into()));
    fields.push(("report_name", report.name.clone().into()));
    fields.sort_by_key(|(name, _)| *name);
    fields
}

fn of_project(mut own: Fields, project: &Project) -> Fields {
    own.push(("project_id", (1_200 + project.number).into()));
    own.push(("project_name", project.name.clone().into()));
    own
}
