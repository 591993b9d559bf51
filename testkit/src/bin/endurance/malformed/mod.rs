//! Requests that must be refused, and some that must be understood in one way only.
//!
//! What counts in the end is what the origin saw: at most the one request that was meant.

mod table;

use std::time::Duration;

use testkit::client::Client;
use testkit::message::WireError;
use testkit::origin::ReplyAct;
use testkit::text::show_some;

use self::table::{Case, ROWS, Wanted};
use crate::Plan;
use crate::ground::{Ground, rule, text, wait_for};
use crate::report::Report;

/// What a refusal may say. 408 is for those that never end, 494 is sent as 400.
const REFUSALS: [u16; 8] = [400, 405, 408, 413, 414, 431, 501, 505];
/// How long the server may take to close, its own time-outs of one second included.
const CLOSE_TIME: Duration = Duration::from_secs(4);

const CONF: &str = "http {
        client_header_timeout 1s; client_body_timeout 1s; client_max_body_size 1k; lingering_timeout 1s;
        proxy_http_version 1.1; proxy_read_timeout 2s;
        upstream origin { server @ORIGIN1@; keepalive 4; }
        server {
            listen @ADDR1@;
            server_name good.example;
            location / { proxy_pass http://origin; proxy_set_header Connection \"\"; }
            location /stream/ {
                proxy_pass http://origin; proxy_set_header Connection \"\"; proxy_request_buffering off;
            }
        }
    }";

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let mut ground = Ground::new(1, vec![rule("*", &[ReplyAct::Echo])])?;
    ground.start(&plan.binary, CONF)?;
    let mut failures = Vec::new();
    for case in ROWS {
        if let Err(why) = one(&ground, case) {
            failures.push(format!("{}: {why}", case.name));
        }
    }
    for failure in &failures {
        println!("        {failure}");
    }
    let count = format!("{} requests", ROWS.len());
    let shown = if failures.is_empty() { Ok(count) } else { Err(format!("{} of {count}", failures.len())) };
    report.check("each is refused or harmless, and the next request is served", shown);
    report.check("the origin saw nothing twice and nothing smuggled", seen_once(&ground));
    let grave = ground.grave_lines();
    report.check("nothing grave in the error log", crate::report::when(grave.is_empty(), grave.join("; ")));
    Ok(())
}

fn one(ground: &Ground, case: &Case) -> Result<(), String> {
    let mark = ground.origins.count();
    let mut client = ground.client()?;
    client.send(&table::bytes(case.text)?).map_err(text)?;
    let outcome = match case.wanted {
        Wanted::Refused => refused(&mut client),
        Wanted::Harmless | Wanted::Streamed => harmless(&mut client),
    };
    let good = ground.once("/good").map_err(|error| format!("the next request: {error}"))?;
    if good.status() != Some(200) {
        return Err(format!("the next request was answered {:?}", good.start));
    }
    let others = ground.origins.since(mark).into_iter().map(|seen| seen.request.start);
    // An origin takes note of a body that was cut off when it pleases.
    let others: Vec<String> =
        others.filter(|s| s != "GET /good HTTP/1.1" && !s.contains("/stream/")).collect();
    let allowed = usize::from(case.wanted == Wanted::Harmless);
    if others.len() > allowed {
        return Err(format!("the origin saw {others:?}"));
    }
    outcome
}

/// A refusal, or the end without a word; then the end.
fn refused(client: &mut Client) -> Result<(), String> {
    match client.answer() {
        Ok(answer) if answer.status().is_some_and(|status| REFUSALS.contains(&status)) => {}
        Ok(answer) => return Err(format!("answered {:?}", answer.start)),
        // HTTP/0.9 is answered without a head.
        Err(WireError::HalfHead(said)) if said.contains("<title>400 ") => return Ok(()),
        Err(WireError::Closed) => return Ok(()),
        Err(error) => return Err(text(error)),
    }
    match client.rest_within(CLOSE_TIME) {
        Ok(rest) if rest.is_empty() => Ok(()),
        Ok(rest) => Err(format!("behind the refusal came {}", show_some(&rest, 60))),
        Err(error) => Err(format!("not closed after the refusal: {error}")),
    }
}

/// Any answer; behind it at most a refusal.
fn harmless(client: &mut Client) -> Result<(), String> {
    match client.answer() {
        Ok(_) | Err(WireError::Closed | WireError::HalfHead(_)) => {}
        Err(error) => return Err(text(error)),
    }
    client.end_sending();
    let rest = client.rest_within(CLOSE_TIME).map_err(text)?;
    if rest.is_empty() || rest.starts_with(b"HTTP/1.1 400 ") {
        return Ok(());
    }
    Err(format!("a second answer: {}", show_some(&rest, 60)))
}

/// Looks over everything that the origin saw.
fn seen_once(ground: &Ground) -> Result<String, String> {
    // Requests that were cut off arrive last.
    let seen = wait_for("the origin", || Ok(Some(ground.origins.since(0))))?;
    let mut starts: Vec<&str> = seen.iter().map(|seen| seen.request.start.as_str()).collect();
    starts.retain(|start| !start.contains(" /good "));
    starts.sort_unstable();
    let twice =
        starts.windows(2).find(|pair| pair.first() == pair.last() && pair.concat().contains("/stream/"));
    if let Some(smuggled) = starts.iter().find(|start| start.to_lowercase().contains("smuggled")) {
        return Err(format!("it saw {smuggled:?}"));
    }
    if let Some(twice) = twice {
        return Err(format!("it saw twice {:?}", twice.concat()));
    }
    Ok(format!("{} requests passed on of {}", starts.len(), ROWS.len()))
}
