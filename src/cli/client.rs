//! The client of scanhook's own API. (Webhooks leave through `dispatch::sender` only.)

use anyhow::{Context, anyhow};
use reqwest::Method;
use serde_json::Value;
use url::Url;

use super::Global;

/// Talks to a daemon.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    api_key: String,
}

impl Client {
    /// A client for the daemon in the settings.
    pub(super) fn new(global: &Global) -> anyhow::Result<Self> {
        let (config, _) = global.load(Vec::new())?;
        Self::at(config.client.url, config.client.api_key)
    }

    /// A client for the daemon at `base`.
    pub(super) fn at(base: Url, api_key: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build().context("cannot make an HTTP client")?;
        Ok(Self { http, base, api_key })
    }

    /// GET a path.
    pub(super) async fn get(&self, path: &str, query: &[(&str, Option<String>)]) -> anyhow::Result<Value> {
        let given: Vec<(&str, &String)> =
            query.iter().filter_map(|(name, value)| value.as_ref().map(|value| (*name, value))).collect();
        self.send(self.http_request(Method::GET, path)?.query(&given)).await
    }

    /// POST a JSON text.
    pub(super) async fn post(&self, path: &str, body: String, headers: &[(&str, &str)]) -> anyhow::Result<Value> {
        let mut request = self.http_request(Method::POST, path)?.header("content-type", "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
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

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
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
        let body = answer.bytes().await.context("the answer broke off")?;
        if body.is_empty() && status.is_success() {
            return Ok(Value::Null);
        }
        let value: Value = serde_json::from_slice(&body)
            .with_context(|| format!("{} answered {status}, but not in JSON; is it scanhook?", self.base))?;
        if status.is_success() {
            Ok(value)
        } else {
            Err(anyhow!("{} ({status})", value["detail"].as_str().unwrap_or("the request was refused")))
        }
    }
}
