//! The client of scanhook's own API. (Webhooks leave through `dispatch::sender` only.)

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use anyhow::{Context, anyhow};
use http::HeaderValue;
use reqwest::Method;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use super::Global;

/// Talks to a daemon.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    api_key: String,
}

/// What the daemon answered. It displays as it came, byte for byte; as a value, a `content` is the
/// text of its JSON, since not every JSON that was published has a value here (`1e999`).
#[derive(Debug)]
pub(super) struct Answer {
    text: String,
    value: Value,
}

impl Deref for Answer {
    type Target = Value;
    fn deref(&self) -> &Value {
        &self.value
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Reads JSON, but leaves every `content` as text.
fn read(json: &str) -> serde_json::Result<Value> {
    if json.starts_with('{') {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json)?;
        let field = |(name, value): (String, &RawValue)| {
            let value = if name == "content" { Value::from(value.get()) } else { read(value.get())? };
            Ok((name, value))
        };
        fields.into_iter().map(field).collect()
    } else if json.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(json)?;
        items.into_iter().map(|item| read(item.get())).collect()
    } else {
        serde_json::from_str(json)
    }
}

impl Client {
    /// A client for the daemon in the settings.
    pub(super) fn new(global: &Global) -> anyhow::Result<Self> {
        let (config, _) = global.load(Vec::new())?;
        Self::at(config.client.url, config.client.api_key)
    }

    /// A client for the daemon at `base`.
    pub(super) fn at(base: Url, api_key: String) -> anyhow::Result<Self> {
        text_for_header("the API key", &api_key)?;
        let http = reqwest::Client::builder().no_proxy().build().context("cannot make an HTTP client")?;
        Ok(Self { http, base, api_key })
    }

    /// GET a path.
    pub(super) async fn get(&self, path: &str, query: &[(&str, Option<String>)]) -> anyhow::Result<Answer> {
        let given: Vec<(&str, &String)> =
            query.iter().filter_map(|(name, value)| value.as_ref().map(|value| (*name, value))).collect();
        self.send(self.http_request(Method::GET, path)?.query(&given)).await
    }

    /// POST a JSON text.
    pub(super) async fn post(&self, path: &str, body: String, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut request = self.http_request(Method::POST, path)?.header("content-type", "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, text_for_header(name, value)?);
        }
        self.send(request).await
    }

    /// PUT a JSON text.
    pub(super) async fn put(&self, path: &str, body: String) -> anyhow::Result<Answer> {
        let request = self.http_request(Method::PUT, path)?.header("content-type", "application/json").body(body);
        self.send(request).await
    }

    /// PATCH with a JSON text.
    pub(super) async fn patch(&self, path: &str, body: String) -> anyhow::Result<Answer> {
        let request = self.http_request(Method::PATCH, path)?.header("content-type", "application/json").body(body);
        self.send(request).await
    }

    /// DELETE a path.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.http_request(Method::DELETE, path)?).await.map(drop)
    }

    fn http_request(&self, method: Method, path: &str) -> anyhow::Result<reqwest::RequestBuilder> {
        let url = self.base.join(path).with_context(|| format!("`{path}` does not make a URL"))?;
        let request = self.http.request(method, url);
        Ok(if self.api_key.is_empty() { request } else { request.bearer_auth(&self.api_key) })
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let answer = request.send().await.map_err(|error| {
            if error.is_connect() {
                anyhow!(
                    "no scanhook answers at {}; start it with `scanhook serve`, or name another with --url",
                    self.base
                )
            } else {
                anyhow::Error::from(error).context(format!("cannot talk to {}", self.base))
            }
        })?;
        let status = answer.status();
        let text = answer.text().await.context("the answer broke off")?;
        if text.is_empty() && status.is_success() {
            return Ok(Answer { text, value: Value::Null });
        }
        let value = read(&text)
            .with_context(|| format!("{} answered {status}, but not in JSON; is it scanhook?", self.base))?;
        if status.is_success() {
            Ok(Answer { text, value })
        } else {
            Err(anyhow!("{} ({status})", value["detail"].as_str().unwrap_or("the request was refused")))
        }
    }
}

/// Checks that a text can be sent in a header.
fn text_for_header(what: &str, text: &str) -> anyhow::Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| anyhow!("{what} has characters that HTTP forbids in a header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_stays_as_it_was_published() {
        let content = r#"{"n":  1e999, "s": "\ud800", "deep": [[[[1.10]]]]}"#;
        let list = format!(r#"{{"data": [{{"id": "a", "n": 1.5, "content": {content}}}], "next_cursor": null}}"#);
        let value = read(&list).expect("JSON");
        assert_eq!((&value["data"][0]["content"], &value["data"][0]["n"]), (&Value::from(content), &Value::from(1.5)));
        assert!(read("nonsense").is_err());
    }
}
