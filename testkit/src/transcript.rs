//! What happened in a run, in a form in which two runs can be compared.
//!
//! Ports, folders, dates and versions are replaced by names, since they differ from run to run.

use crate::dates;
use crate::message::Message;
use crate::origin::Seen;
use crate::places::Places;
use crate::text::{latin1, show_some};

/// All answers, and all requests that origins saw.
#[derive(Debug, Default, Clone)]
pub struct Transcript {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    line: usize,
    who: String,
    start: String,
    headers: Vec<(String, String)>,
    /// `Expires` as it came; among the headers it counts from `Date` on.
    expires: Option<String>,
    body: String,
    framing: String,
}

impl Transcript {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the entries behind the first `length`.
    pub fn truncate(&mut self, length: usize) {
        self.entries.truncate(length);
    }

    /// Adds an answer.
    pub fn answer(&mut self, line: usize, answer: &Message, places: &Places) {
        self.entries.push(Entry::of(line, "answer".into(), answer, places));
    }

    /// Adds a request that an origin saw.
    pub fn seen(&mut self, seen: &Seen, places: &Places) {
        let mut entry = Entry::of(0, format!("seen by origin {}", seen.origin), &seen.request, places);
        // Before 1.29.7 nginx asks by HTTP/1.0 and closes, unless told otherwise. Scenarios that are about either
        // say so by a line of their own.
        entry.headers.retain(|(name, value)| !(name == "Connection" && value == "close"));
        // Newer ones write Host first, older ones behind the fields that are set.
        entry.headers.sort_by_key(|(name, _)| name != "Host");
        if let Some(line) =
            entry.start.strip_suffix("HTTP/1.0").or_else(|| entry.start.strip_suffix("HTTP/1.1"))
        {
            entry.start = format!("{line}HTTP/1");
        }
        self.entries.push(entry);
    }

    /// The first difference to the oracle's transcript, `None` when there is none.
    #[must_use]
    pub fn difference(&self, oracle: &Self, volatile: &[String]) -> Option<String> {
        for index in 0..self.entries.len().max(oracle.entries.len()) {
            let (ours, theirs) = match (self.entries.get(index), oracle.entries.get(index)) {
                (Some(ours), Some(theirs)) => {
                    (ours.without(volatile), theirs.without(volatile).with_expires_of(ours))
                }
                (Some(ours), None) => return Some(format!("nginx has no such exchange:\n{}", ours.shown())),
                (None, Some(theirs)) => return Some(format!("only nginx has:\n{}", theirs.shown())),
                (None, None) => return None,
            };
            if ours != theirs {
                return Some(diff(&ours, &theirs));
            }
        }
        None
    }
}

impl Entry {
    fn of(line: usize, who: String, message: &Message, places: &Places) -> Self {
        let boundary = message
            .header("Content-Type")
            .and_then(|value| value.split_once("boundary="))
            .map(|(_, boundary)| boundary.to_owned());
        let clean = |text: &str| {
            let text = versionless(&places.anonymous(text));
            match &boundary {
                Some(boundary) if !boundary.is_empty() => text.replace(boundary, "BOUNDARY"),
                _ => text,
            }
        };
        // Two encoders need not agree about more than the text.
        let is_coded = message
            .headers
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case("Content-Encoding") && value == "gzip");
        let plain = is_coded.then(|| crate::text::gunzip(&message.body).ok()).flatten();
        let body = latin1(plain.as_deref().unwrap_or(&message.body));
        let clean_body = clean(&body);
        let date = message.header("Date").and_then(dates::parse);
        let mut headers = Vec::new();
        for (name, value) in &message.headers {
            let lower = name.to_lowercase();
            if lower == "date" || lower == "content-length" && clean_body != body {
                continue;
            }
            let relative = |value: &str| Some(dates::parse(value)? - date?);
            let value = match relative(value) {
                Some(offset) if lower == "expires" => format!("Date {offset:+}"),
                _ => clean(value),
            };
            headers.push((name.clone(), value));
        }
        let framing = format!("{:?}, {:?}", message.framing, message.ending);
        let expires = message.header("Expires").map(str::to_owned);
        Self { line, who, start: clean(&message.start), headers, expires, body: clean_body, framing }
    }

    /// Nothing differs where both say the same time, however long it is until then: one may be asked a second later.
    fn with_expires_of(mut self, other: &Self) -> Self {
        let is_expires = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("Expires");
        let theirs = other.headers.iter().find(is_expires);
        if let (true, Some((_, theirs))) = (self.expires == other.expires, theirs) {
            let own = self.headers.iter_mut().find(|field| is_expires(&&**field));
            own.into_iter().for_each(|(_, value)| value.clone_from(theirs));
        }
        self.expires.clone_from(&other.expires);
        self
    }

    fn without(&self, volatile: &[String]) -> Self {
        let mut entry = self.clone();
        entry.headers.retain(|(name, _)| !volatile.iter().any(|other| other.eq_ignore_ascii_case(name)));
        entry
    }

    fn lines(&self) -> Vec<String> {
        let place = if self.line > 0 { format!("script:{}: ", self.line) } else { String::new() };
        let mut lines = vec![format!("{place}{}", self.who), self.start.clone()];
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.push(format!("framing: {}", self.framing));
        lines.push(format!("body: {}", show_some(self.body.as_bytes(), 600)));
        lines
    }

    fn shown(&self) -> String {
        self.lines().join("\n")
    }
}

/// The lines of both, marked as nginx's (`-`), ours (`+`), or both.
fn diff(ours: &Entry, theirs: &Entry) -> String {
    let (mut ours, theirs) = (ours.lines(), theirs.lines());
    let mut text = String::from("lines of nginx are marked -, ours +\n");
    for line in theirs {
        if let Some(at) = ours.iter().position(|other| *other == line) {
            for only_ours in ours.drain(..at) {
                text.push_str(&format!("+ {only_ours}\n"));
            }
            ours.remove(0);
            text.push_str(&format!("  {line}\n"));
        } else {
            text.push_str(&format!("- {line}\n"));
        }
    }
    for line in ours {
        text.push_str(&format!("+ {line}\n"));
    }
    text
}

/// The text with `nginx/1.22.1` and `tidegate/0.1.0` both written as `nginx/V`.
fn versionless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, name)) =
        ["nginx/", "tidegate/"].iter().filter_map(|name| Some((rest.find(name)?, name))).min()
    {
        let (before, after) = rest.split_at(at);
        let after = after.strip_prefix(name).unwrap_or(after);
        let version = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
        clean.push_str(before);
        if version == 0 {
            clean.push_str(name);
        } else {
            clean.push_str("nginx/V");
        }
        rest = after.get(version..).unwrap_or_default();
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Ending, Framing};
    use std::path::Path;

    #[test]
    fn the_same_time_is_no_difference() {
        let check = |ours: [&str; 2], theirs: [&str; 2], expected: bool| {
            let [ours, theirs] = [ours, theirs].map(|[date, expires]| {
                let headers = [("Date", date), ("Expires", expires)];
                let headers = headers
                    .map(|(name, second)| (name.to_owned(), format!("Tue, 14 Nov 2023 22:13:{second} GMT")));
                let message = Message {
                    start: "HTTP/1.1 200 OK".to_owned(),
                    headers: headers.into(),
                    body: Vec::new(),
                    framing: Framing::Length,
                    ending: Ending::Whole,
                    trailers: Vec::new(),
                };
                let mut transcript = Transcript::default();
                transcript.answer(1, &message, &Places::new(Path::new("/")));
                transcript
            });
            assert_eq!(ours.difference(&theirs, &[]).is_none(), expected);
        };
        check(["20", "30"], ["20", "30"], true);
        check(["20", "30"], ["21", "31"], true);
        check(["20", "30"], ["21", "30"], true);
        check(["20", "30"], ["20", "31"], false);
        check(["20", "30"], ["21", "32"], false);
    }

    #[test]
    fn versions_are_hidden() {
        assert_eq!(versionless("<b>nginx/1.22.1</b>"), "<b>nginx/V</b>");
        assert_eq!(versionless("tidegate/0.1.0"), "nginx/V");
        assert_eq!(versionless("/etc/nginx/conf"), "/etc/nginx/conf");
        assert_eq!(versionless("nginx"), "nginx");
    }
}
