//! Settings as they may be shown.

use std::borrow::Cow;

use url::Url;

/// A URL fit to be shown: its password is hidden.
pub fn hide_password(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
        // What is wrong may be the password itself, so all that may be one is hidden.
        return match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
            _ => url.to_owned(),
        };
    };
    if parsed.password().is_some() {
        // Only URLs that cannot have a password refuse one.
        let _ = parsed.set_password(Some("***"));
    }
    if parsed.query_pairs().any(|(name, _)| name == "password") {
        let hidden = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
            let value = if name == "password" { "***".into() } else { value };
            (name.into_owned(), value.into_owned())
        };
        let pairs: Vec<(String, String)> = parsed.query_pairs().map(hidden).collect();
        parsed.query_pairs_mut().clear().extend_pairs(pairs);
    }
    if parsed.as_str().contains("***") { parsed.to_string() } else { url.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown_however_the_url_is_broken() {
        for (url, shown) in [
            ("postgres://me:word@127.0.0.1/a", "postgres://me:***@127.0.0.1/a"),
            ("postgres://me:wo/rd@127.0.0.1:x/a", "postgres://***@127.0.0.1:x/a"),
            ("postgres://me:word@127.0.0.1:99999/a", "postgres://***@127.0.0.1:99999/a"),
            ("postgres://127.0.0.1/a?user=me&password=word", "postgres://127.0.0.1/a?user=me&password=***"),
            ("sqlite:scanhook.db", "sqlite:scanhook.db"),
        ] {
            assert_eq!(hide_password(url), shown);
        }
    }
}
