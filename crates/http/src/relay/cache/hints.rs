//! What `-t` says of keys that do something else than was probably meant.

use conf::{Error, Level, Word};

use crate::conf::compile::Cx;

/// Variables that tell hosts from each other.
const HOSTS: [&str; 5] = ["host", "http_host", "server_name", "proxy_host", "ssl_server_name"];
/// Variables that tell schemes from each other.
const SCHEMES: [&str; 3] = ["scheme", "https", "server_port"];
/// Variables that say something else. What others say is not known.
const OTHERS: [&str; 9] = [
    "uri",
    "request_uri",
    "document_uri",
    "args",
    "query_string",
    "is_args",
    "request_method",
    "slice_range",
    "request_body",
];
const OTHER_PREFIXES: [&str; 3] = ["arg_", "cookie_", "http_"];

/// The key of a location that purges.
pub(super) fn purge_key(cx: &mut Cx<'_>, name: &str, key: &Word) {
    if names(&key.as_str()).any(|name| name == "request_method") {
        let sentence = format!(
            "\"{name}\" has $request_method in its key: a purge by a method other than that of the stored request \
             finds nothing"
        );
        cx.notices.push(Error::at(key, sentence).with_level(Level::Hint));
    }
}

/// `*_cache_key`.
pub(super) fn key(cx: &mut Cx<'_>, name: &str, key: &Word) {
    for sentence in of_key(name, &key.as_str()) {
        cx.notices.push(Error::at(key, sentence).with_level(Level::Hint));
    }
}

fn of_key(name: &str, key: &str) -> Vec<String> {
    let mut said = Vec::new();
    let has = |list: &[&str]| names(key).any(|name| list.contains(&name));
    if has(&["request_method"]) {
        said.push(format!(
            "\"{name}\" has $request_method in it: a purge by another method finds nothing, and HEAD is not answered \
             by what GET has stored"
        ));
    }
    let is_known = |name: &str| {
        let all = [&HOSTS[..], &SCHEMES, &OTHERS];
        all.iter().any(|list| list.contains(&name))
            || OTHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    if !names(key).all(is_known) {
        return said;
    }
    if !has(&HOSTS) {
        said.push(format!(
            "\"{name}\" has no $host in it: hosts that are served here get each other's answers"
        ));
    }
    if !has(&SCHEMES) {
        said.push(format!("\"{name}\" has no $scheme in it: http and https get each other's answers"));
    }
    said
}

/// The names of the variables in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('$').skip(1).map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_mix_are_told() {
        let check = |key: &str, expected: &[&str]| {
            let said = of_key("proxy_cache_key", key);
            assert_eq!(said.len(), expected.len(), "{key}: {said:?}");
            for (said, part) in said.iter().zip(expected) {
                assert!(said.contains(part), "{key}: {said}");
            }
        };
        check("$scheme$host$request_uri", &[]);
        check("$scheme$proxy_host$uri$is_args$args", &[]);
        check("${scheme}://${http_host}$request_uri", &[]);
        check("$uri", &["no $host", "no $scheme"]);
        check("$host$request_uri", &["no $scheme"]);
        check("$scheme$http_user_agent$uri", &["no $host"]);
        check("$my_own$uri", &[]);
        check("$scheme$request_method$host$request_uri", &["$request_method"]);
        check("fixed", &["no $host", "no $scheme"]);
    }
}
