//! How many connections to an origin many requests of many clients need.
//!
//! They may be no more than those that idle at the end and those that were in use at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::client::Client;
use testkit::process::Binary;

use crate::Plan;
use crate::fickle::Fickle;
use crate::ground::{Ground, ask, text};
use crate::report::{Report, when};

const CLIENTS: usize = 256;
const KEEPALIVE: usize = 64;

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let ours = count(&plan.binary, plan.requests)?;
    let theirs = plan.oracle.as_ref().and_then(|oracle| count(oracle, plan.requests).ok());
    let nginx = theirs.map_or("not measured".to_owned(), |seen| seen.opened.to_string());
    let limit = KEEPALIVE + ours.peak;
    let seen = format!("{} for {} requests, peak {}; nginx {nginx}", ours.opened, ours.requests, ours.peak);
    report.check(
        &format!("connections opened are at most keepalive {KEEPALIVE} and the peak in flight"),
        when(ours.opened <= limit, seen),
    );
    Ok(())
}

struct Seen {
    opened: usize,
    requests: usize,
    /// Most requests that were under way at once.
    peak: usize,
}

fn count(binary: &Binary, requests: usize) -> Result<Seen, String> {
    let origin = Fickle::start().map_err(text)?;
    let conf = format!(
        "worker_processes 2; events {{ worker_connections 2048; }}
        http {{
            proxy_http_version 1.1; keepalive_requests 1000000000;
            upstream origin {{ server 127.0.0.1:{}; keepalive {KEEPALIVE}; keepalive_requests 1000000000; }}
            server {{ listen @ADDR1@; location / {{ proxy_pass http://origin; proxy_set_header Connection \"\"; }} }}
        }}",
        origin.port
    );
    let mut ground = Ground::new(1, Vec::new())?;
    ground.start(binary, &conf)?;
    let (address, each) = (ground.address(), requests / CLIENTS);
    let (flying, peak, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (address, flying, peak, done) = (&address, &flying, &peak, &done);
            scope.spawn(move || {
                let Ok(mut client) = Client::connect(address) else { return };
                for nth in 0..each {
                    peak.fetch_max(flying.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let answer = ask(&mut client, &format!("/{nth}"));
                    flying.fetch_sub(1, Ordering::SeqCst);
                    if !answer.is_ok_and(|answer| answer.status() == Some(200)) {
                        return;
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let requests = done.into_inner();
    if requests < each * CLIENTS {
        return Err(format!("only {requests} of {} requests were answered", each * CLIENTS));
    }
    Ok(Seen { opened: origin.accepted(), requests, peak: peak.into_inner() })
}
