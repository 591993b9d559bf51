//! More clients than the worker has descriptors: it must come back when they are gone.

use testkit::client::Client;
use testkit::origin::ReplyAct;
use testkit::process::signal;

use crate::Plan;
use crate::ground::{Ground, ask, rule, wait_for};
use crate::report::{Report, when};

const LIMIT: usize = 64;
const CLIENTS: usize = 200;
const ROUNDS: usize = 3;

const CONF: &str = "worker_rlimit_nofile 64;
    events { worker_connections 512; }
    http {
        server {
            listen @ADDR1@; root @ROOT@/html;
            location /api/ { proxy_pass http://@ORIGIN1@; }
        }
    }";

/// Checks that the worker survives it and that nothing is lost for good.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let mut ground = Ground::new(1000, vec![rule("*", &[ReplyAct::Echo])])?;
    ground.start(&plan.binary, CONF)?;
    let worker = ground.worker()?;
    serves(&ground)?;
    for round in 1..=ROUNDS {
        let exhausted = exhaust(&ground, worker);
        let what = format!("service recovers from too few descriptors, round {round}");
        report.check(&what, exhausted.and_then(|seen| serves(&ground).map(|()| seen)));
    }
    let reloaded = reload(plan, &ground, worker);
    report.check("a reload without descriptors leaves the service alive", reloaded);
    Ok(())
}

/// A file and an answer of the origin, within the time that the server may pause.
fn serves(ground: &Ground) -> Result<(), String> {
    for target in ["/file.bin", "/api/x"] {
        wait_for(target, || Ok(ground.once(target).ok().filter(|answer| answer.status() == Some(200))))?;
    }
    Ok(())
}

/// Takes all descriptors, asks for something that needs one more, and lets go.
fn exhaust(ground: &Ground, worker: u32) -> Result<String, String> {
    let (_clients, status) = take_all(ground, worker)?;
    if ground.worker()? != worker {
        return Err("the worker was replaced".into());
    }
    Ok(format!("a request without descriptors got {status}"))
}

/// Connects until the worker has no descriptor left; the first connection then asks for an origin's answer.
fn take_all(ground: &Ground, worker: u32) -> Result<(Vec<Client>, String), String> {
    let mut first = ground.client()?;
    ask(&mut first, "/file.bin")?;
    let clients: Result<Vec<Client>, String> = (0..CLIENTS).map(|_| ground.client()).collect();
    let mut clients = clients?;
    wait_for("exhaustion", || {
        let used = crate::proc_fs::descriptors(worker)?;
        Ok((used >= LIMIT - 1).then_some(()))
    })?;
    let answer = ask(&mut first, "/api/x").map_err(|error| format!("the first connection: {error}"))?;
    let status = answer.status().map(|status| status.to_string()).unwrap_or_default();
    clients.push(first);
    Ok((clients, status))
}

/// HUP while nothing can be opened: the server may refuse, but must serve on.
fn reload(plan: &Plan, ground: &Ground, worker: u32) -> Result<String, String> {
    let (clients, _) = take_all(ground, worker)?;
    let more = CONF.replace("listen @ADDR1@;", "listen @ADDR1@; listen @ADDR2@; error_log @ROOT@/other.log;");
    ground.configure(&plan.binary, &more)?;
    signal("HUP", ground.master()?);
    drop(clients);
    let served = serves(ground);
    // And a reload afterwards must take effect.
    ground.configure(&plan.binary, &CONF.replace("/api/ {", "/api/ { add_header X-Generation 2;"))?;
    signal("HUP", ground.master()?);
    served?;
    wait_for("the reload after it", || {
        let answer = ground.once("/api/x").ok();
        Ok(answer.filter(|answer| answer.header("X-Generation") == Some("2")))
    })?;
    let now = ground.worker()?;
    when(true, if now == worker { "by the same worker".into() } else { "by another worker".into() })
}
