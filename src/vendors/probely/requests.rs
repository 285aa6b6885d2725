//! The request that shows a finding, and the response to it.

use serde_json::{Value, json};
use url::{Position, Url};

use crate::world::Place;

/// One request and its response, each in a fence of Markdown; none for what is not in a website.
pub(super) fn requests(place: &Place, url: &str, parameter: &str, attack: &str, evidence: &str) -> Vec<Value> {
    let (Some(method), Ok(url)) = (&place.method, Url::parse(url)) else { return Vec::new() };
    let insertion_point = place.insertion_point.as_deref().filter(|_| !attack.is_empty()).unwrap_or_default();
    let mut path = url[Position::BeforePath..Position::AfterPath].to_owned();
    let mut head = format!("Host: {}", &url[Position::BeforeHost..Position::AfterPort]);
    let mut body = String::new();
    match insertion_point {
        "parameter" | "arbitrary_url_param" => path = format!("{path}?{}", pair(parameter, attack)),
        "cookie" => head = format!("{head}\nCookie: {parameter}={attack}"),
        "header" => head = format!("{head}\n{parameter}: {attack}"),
        "request_body" | "non_standard_parameter" if parameter.is_empty() => body = format!("\n\n{attack}"),
        "request_body" | "non_standard_parameter" => body = format!("\n\n{}", pair(parameter, attack)),
        _ => (),
    }
    let request = format!("{method} {path} HTTP/1.1\n{head}{body}");
    vec![json!({"request": fenced(&request), "response": fenced(&response(evidence))})]
}

fn pair(name: &str, value: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish()
}

/// Shows the evidence where it would be: as the status, as a header, or in the body.
fn response(evidence: &str) -> String {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    if evidence.starts_with("HTTP/") {
        evidence.to_owned()
    } else if evidence.split_once(": ").is_some_and(|(name, _)| is_name(name)) {
        format!("HTTP/1.1 200 OK\n{evidence}")
    } else {
        format!("HTTP/1.1 200 OK\n\n{evidence}").trim_end().to_owned()
    }
}

fn fenced(text: &str) -> String {
    format!("```\n{text}\n```")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::definition;

    #[track_caller]
    fn check(key: &str, attack: &str, request: &str, response: &str) {
        let definition = definition(key).expect("a kind of weakness");
        let parameter = definition.place.parameter.as_deref().unwrap_or_default();
        let url = format!("https://example.test:8443{}", definition.place.path.as_deref().unwrap_or_default());
        let made = requests(&definition.place, &url, parameter, attack, &definition.evidence);
        assert_eq!(made, [json!({"request": fenced(request), "response": fenced(response)})]);
    }

    #[test]
    fn a_request_carries_the_attack_where_it_is_inserted() {
        check(
            "owasp-zap-active-xss-reflected",
            "<i>",
            "GET /search?q=%3Ci%3E HTTP/1.1\nHost: example.test:8443",
            "HTTP/1.1 200 OK\n\n<script>alert(1);</script>",
        );
        check(
            "owasp-zap-active-xss-persistent",
            "<i>",
            "POST /guestbook HTTP/1.1\nHost: example.test:8443\n\ncomment=%3Ci%3E",
            "HTTP/1.1 200 OK",
        );
        check(
            "owasp-zap-cookie-no-httponly",
            "",
            "POST /login HTTP/1.1\nHost: example.test:8443",
            "HTTP/1.1 200 OK\nSet-Cookie: SESSIONID",
        );
        check(
            "owasp-zap-application-error-disclosure",
            "",
            "GET /search HTTP/1.1\nHost: example.test:8443",
            "HTTP/1.1 500 Internal Server Error",
        );
    }

    #[test]
    fn what_is_on_a_port_was_not_asked_for_by_http() {
        let definition = definition("sslyze-certificate-expired").expect("a kind of weakness");
        assert!(requests(&definition.place, "https://example.test", "", "", "").is_empty());
    }
}
