//! Judges what origins saw in a step.
//!
//! The lines speak of the last request of the step unless a `saw request N` selects another.

use super::answer::same_bytes;
use super::{Failure, Run};
use crate::origin::Seen;
use crate::script::{Act, ActKind, Saw};
use crate::text::{glob, pattern, show_some};

/// How long a request may be on its way that must come: an answer can overtake it in the books.
const ARRIVAL: std::time::Duration = std::time::Duration::from_secs(3);

impl Run<'_> {
    /// Writes all requests that origins saw into the transcript, by origin and request line, since those that are on
    /// their way at once arrive in any order.
    pub(super) fn record_seen(&mut self) {
        let all = self.origins.since(0);
        let mut kept: Vec<&Seen> = all
            .iter()
            .enumerate()
            .filter(|(index, _)| !self.retried.iter().any(|range| range.contains(index)))
            .map(|(_, seen)| seen)
            .collect();
        kept.sort_by(|a, b| (a.origin, &a.request.start).cmp(&(b.origin, &b.request.start)));
        for seen in kept {
            self.transcript.seen(seen, &self.places);
        }
    }

    pub(super) fn saw(&self, acts: &[&Act], mark: usize) -> Result<(), Failure> {
        let wanted: Vec<(&Act, &Saw)> = acts
            .iter()
            .filter_map(|act| if let ActKind::Saw(saw) = &act.kind { Some((*act, saw)) } else { None })
            .collect();
        let least = wanted.iter().map(|(_, saw)| least(saw)).max().unwrap_or(0);
        // Whether it came in time is judged by the lines themselves.
        let _ = self.origins.wait_for(mark + least, ARRIVAL);
        let seen = self.origins.since(mark);
        let mut selected = seen.last();
        for (act, saw) in wanted {
            let fail = |what: String| Failure { line: act.line, text: act.text.clone(), what };
            if let Saw::Select(nth) = saw {
                selected = nth.checked_sub(1).and_then(|index| seen.get(index));
            }
            self.holds_of(saw, selected, &seen).map_err(|what| fail(format!("{what}\n{}", shown(&seen))))?;
        }
        Ok(())
    }

    fn holds_of(&self, saw: &Saw, selected: Option<&Seen>, all: &[Seen]) -> Result<(), String> {
        match saw {
            Saw::Requests(count) => return held(all.len() == *count),
            Saw::Order(order) => return held(all.iter().map(|one| &one.origin).eq(order)),
            _ => {}
        }
        let Some(seen) = selected else { return Err("no such request came".into()) };
        let request = &seen.request;
        match saw {
            Saw::Line(line) => held(request.start == self.expand(line)?),
            Saw::Header(name, wanted) => {
                let wanted = self.expand(wanted)?;
                held(request.all(name).iter().any(|value| glob(wanted.as_bytes(), value.as_bytes())))
            }
            Saw::Absent(name) => held(request.header(name).is_none()),
            Saw::Count(name, count) => held(request.all(name).len() == *count),
            Saw::Names(names) => held(names.iter().eq(request.headers.iter().map(|(name, _)| name))),
            Saw::Body(text) => held(request.body == self.bytes(text)?),
            Saw::Pattern(length) => same_bytes(&pattern(*length), &request.body),
            Saw::Framing(framing) => held(request.framing == *framing),
            Saw::At(origin) => held(seen.origin == *origin),
            Saw::Reused => held(seen.nth > 1),
            Saw::Fresh => held(seen.nth == 1),
            Saw::Select(_) | Saw::Requests(_) | Saw::Order(_) => Ok(()),
        }
    }
}

/// How many requests must come for the line to hold.
fn least(saw: &Saw) -> usize {
    match saw {
        Saw::Requests(count) | Saw::Select(count) => *count,
        Saw::Order(order) => order.len(),
        _ => 1,
    }
}

fn held(held: bool) -> Result<(), String> {
    if held { Ok(()) } else { Err("does not hold".into()) }
}

fn shown(seen: &[Seen]) -> String {
    let mut text = format!("{} requests came\n", seen.len());
    for one in seen {
        text.push_str(&format!("at origin {}, request {} of its connection:\n", one.origin, one.nth));
        for line in one.request.head().lines() {
            text.push_str(&format!("  {line}\n"));
        }
        let body = show_some(&one.request.body, 200);
        text.push_str(&format!("  body, framed by {:?}: {body}\n", one.request.framing));
    }
    text
}
