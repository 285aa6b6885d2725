//! Files: a list of risks as HTML, PDF, XML or JSON. Pure: the same document gives the same bytes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::response::Response;
use http::StatusCode;
use minijinja::Environment;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tracing::error;

use super::{Failure, file};

mod pdf;

use pdf::Style;

/// The templates. Their names end as they do so that what is put into them is escaped.
static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    for (name, source) in [("page.html", include_str!("page.html")), ("page.xml", include_str!("page.xml"))] {
        templates.add_template(name, source).expect("the templates are read by a test");
    }
    templates
});

/// What kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Format {
    Html,
    Pdf,
    Xml,
    Json,
}

impl Format {
    const ALL: [Self; 4] = [Self::Html, Self::Pdf, Self::Xml, Self::Json];

    /// Its content type, as a scan's results name it.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html",
            Self::Pdf => "application/pdf",
            Self::Xml => "application/xml",
            Self::Json => "application/json",
        }
    }

    /// The format of a content type.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.content_type() == content_type)
    }
}

/// A list of risks with a title and some facts.
#[derive(Debug)]
pub(super) struct Document {
    title: &'static str,
    facts: Vec<(&'static str, String)>,
    /// As HostedScan shows risks. The fields that a document may do without are `status`,
    /// `first_detected_at` and `last_detected_at`.
    risks: Vec<Value>,
}

impl Document {
    /// A document, with the numbers of its risks by threat level among its facts.
    pub(super) fn new(title: &'static str, mut facts: Vec<(&'static str, String)>, risks: Vec<Value>) -> Self {
        let mut counts = BTreeMap::from([("HIGH", 0_usize), ("MEDIUM", 0), ("LOW", 0)]);
        for risk in &risks {
            let level = risk["risk_definition"]["threat_level"].as_str().unwrap_or_default();
            counts.entry(level).and_modify(|count| *count += 1);
        }
        facts.extend([("Risks", risks.len().to_string())]);
        facts.extend(
            [("High", "HIGH"), ("Medium", "MEDIUM"), ("Low", "LOW")]
                .map(|(name, level)| (name, counts.get(level).copied().unwrap_or_default().to_string())),
        );
        Self { title, facts, risks }
    }

    /// Answers with a document as a file. It is made on a thread of its own: a long one takes a while.
    pub(super) async fn download(
        format: Format,
        make: impl FnOnce() -> Self + Send + 'static,
    ) -> Result<Response, Failure> {
        match tokio::task::spawn_blocking(move || make().render(format)).await {
            Ok(Ok(bytes)) => Ok(file(format.content_type(), bytes)),
            failed => {
                error!("HostedScan's API: a file was not made: {failed:?}");
                Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"))
            }
        }
    }

    /// The document as a file.
    pub(super) fn render(&self, format: Format) -> Result<Vec<u8>, minijinja::Error> {
        Ok(match format {
            Format::Html => self.fill("page.html")?.into_bytes(),
            Format::Xml => self.fill("page.xml")?.into_bytes(),
            Format::Json => self.json().to_string().into_bytes(),
            Format::Pdf => pdf::write(self.title, &self.paragraphs()),
        })
    }

    fn fill(&self, template: &str) -> Result<String, minijinja::Error> {
        let facts: Vec<(&str, String)> = self.facts.iter().map(|(name, value)| (*name, clean(value))).collect();
        let risks: Vec<Value> = self.risks.iter().map(in_words).collect();
        TEMPLATES.get_template(template)?.render(Serde(json!({"title": self.title, "facts": facts, "risks": risks})))
    }

    fn json(&self) -> Value {
        let name = |name: &str| name.to_ascii_lowercase().replace(' ', "_");
        let facts: Map<String, Value> =
            self.facts.iter().map(|(own, value)| (name(own), value.as_str().into())).collect();
        json!({"title": self.title, "facts": facts, "risks": self.risks})
    }

    fn paragraphs(&self) -> Vec<(Style, String)> {
        let mut paragraphs = vec![(Style::Title, self.title.to_owned())];
        paragraphs.extend(self.facts.iter().map(|(name, value)| (Style::Text, format!("{name}: {value}"))));
        for risk in &self.risks {
            let definition = &risk["risk_definition"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let level = text(&definition["threat_level"]);
            paragraphs.push((Style::Heading, format!("{level}: {}", text(&definition["title"]))));
            let (target, scan_type, cvss) = (&risk["target"], &definition["scan_type"], &definition["cvss"]);
            let place = format!("{}   {}   CVSS {}", text(target), text(scan_type), text(cvss));
            paragraphs.push((Style::Text, place));
            let fields = [
                ("Status", &risk["status"]),
                ("First detected at", &risk["first_detected_at"]),
                ("Last detected at", &risk["last_detected_at"]),
                ("Description", &definition["description"]),
                ("Solution", &definition["solution"]),
            ];
            for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
                paragraphs.push((Style::Text, format!("{name}: {}", text(value))));
            }
            let references = definition["references"].as_array().into_iter().flatten();
            paragraphs.extend(references.map(|reference| (Style::Code, text(reference))));
            paragraphs.push((Style::Code, pretty(&definition["additional_info"])));
        }
        paragraphs
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A risk for a template: what is free in form as text, and nothing in it that XML cannot hold.
fn in_words(risk: &Value) -> Value {
    let mut risk = risk.clone();
    if let Some(info) = risk.pointer_mut("/risk_definition/additional_info") {
        *info = pretty(info).into();
    }
    clean_all(&mut risk);
    risk
}

fn clean_all(value: &mut Value) {
    match value {
        Value::String(text) => *text = clean(text),
        Value::Array(items) => items.iter_mut().for_each(clean_all),
        Value::Object(fields) => fields.values_mut().for_each(clean_all),
        _ => (),
    }
}

/// A text without the characters that XML 1.0 has no way to write.
fn clean(text: &str) -> String {
    let is_allowed = |c: &char| match c {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => *c >= ' ',
    };
    text.chars().filter(is_allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nasty() -> Document {
        let title = "<script>\u{0}alert(\"1\")</script> & ]]> \u{fffe}ü 漢";
        let risk = json!({
            "id": "1", "target_id": "2", "target": "https://example.test/?a=1&b='2'",
            "risk_definition": {
                "scan_type": "NMAP", "title": title, "threat_level": "HIGH", "description": "-->", "solution": "\u{1}",
                "references": ["https://example.test/<>"], "cvss": "7.0", "additional_info": {"a": ["\u{7}", 1]},
            },
        });
        Document::new("Scan results", vec![("Targets", "a&b".to_owned())], vec![risk])
    }

    #[test]
    fn markup_and_control_characters_are_no_way_out_of_a_template() {
        for format in [Format::Html, Format::Xml] {
            let bytes = nasty().render(format).expect("it renders");
            let text = String::from_utf8(bytes).expect("UTF-8");
            assert!(text.contains("&lt;script&gt;alert(&quot;1&quot;)") && text.contains("ü 漢"), "{text}");
            assert!(!text.contains("<script") && !text.contains(['\u{0}', '\u{1}', '\u{fffe}']), "{text}");
            assert!(text.contains("a&amp;b"), "{text}");
        }
    }

    #[test]
    fn every_format_counts_the_risks_by_level() {
        for format in [Format::Html, Format::Xml, Format::Json, Format::Pdf] {
            let bytes = nasty().render(format).expect("it renders");
            assert_eq!(bytes, nasty().render(format).expect("it renders"), "the same bytes");
            assert_eq!(Format::of(format.content_type()), Some(format));
        }
        let facts = nasty().json()["facts"].clone();
        assert_eq!(facts, json!({"targets": "a&b", "risks": "1", "high": "1", "medium": "0", "low": "0"}));
    }
}
