//! Limits that hold for the whole server: as many requests pass as the rate says, with one thread and with two,
//! and neither reloads nor clients that go away make the server forget or remember too much.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::origin::ReplyAct;
use testkit::process::signal;

use crate::Plan;
use crate::ground::{Ground, ask, rule, text, wait_for};
use crate::report::{Report, when};

const CLIENTS: usize = 64;
/// Requests per second.
const RATE: usize = 1000;
/// Requests that are held at once at most.
const HELD: usize = 8;

fn conf(threads: usize, generation: usize) -> String {
    format!(
        "worker_processes {threads};
        events {{ worker_connections 1024; }}
        http {{
            keepalive_requests 1000000000; keepalive_timeout 1h; access_log off;
            proxy_http_version 1.1; limit_req_log_level info; limit_conn_log_level info;
            limit_req_zone $server_port zone=fast:1m rate={RATE}r/s;
            limit_req_zone $server_port zone=slow:1m rate=1r/m;
            limit_conn_zone $server_port zone=held:1m;
            server {{
                listen @ADDR1@;
                root @ROOT@/html;
                location = /generation {{ return 200 \"{generation}\"; }}
                location /fast/ {{ limit_req zone=fast burst=300 nodelay; alias @ROOT@/html/; }}
                location /slow/ {{ limit_req zone=slow; alias @ROOT@/html/; }}
                location /held/ {{ limit_conn held {HELD}; proxy_pass http://@ORIGIN1@; }}
                location /alone/ {{ limit_conn held 1; proxy_pass http://@ORIGIN1@; }}
            }}
        }}"
    )
}

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let rules = vec![
        rule("/held/*", &[ReplyAct::Wait(5), ReplyAct::Text("held".into())]),
        rule("*", &[ReplyAct::Text("free".into())]),
    ];
    for threads in [1, 2] {
        let mut ground = Ground::new(100, rules.clone())?;
        ground.start(&plan.binary, &conf(threads, 0))?;
        let (passed, time) = accepted(&ground, plan.rated)?;
        let wanted = RATE as f64 * time.as_secs_f64();
        let off = (passed as f64 / wanted - 1.0) * 100.0;
        let seen = format!("{passed} of {wanted:.0} in {:.1} s, {off:+.2} %", time.as_secs_f64());
        let tolerance = if plan.rated < Duration::from_secs(10) { 3.0 } else { 1.0 };
        report.check(
            &format!("{CLIENTS} clients get the rate from {threads} thread(s)"),
            when(off.abs() <= tolerance, seen),
        );
        reload(plan, &ground, threads, report)?;
        abort(&ground, report)?;
        let grave = ground.grave_lines();
        report.check("nothing grave in the error log", when(grave.is_empty(), grave.join("; ")));
    }
    Ok(())
}

/// How many requests pass while more ask, once the burst is used up.
fn accepted(ground: &Ground, time: Duration) -> Result<(usize, Duration), String> {
    let (passed, refused, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = ground.client()?;
                    while !stop.load(Ordering::SeqCst) {
                        match ask(&mut client, "/fast/file.bin")?.status() {
                            Some(200) => passed.fetch_add(1, Ordering::SeqCst),
                            Some(503) => refused.fetch_add(1, Ordering::SeqCst),
                            other => return Err(format!("status {other:?}")),
                        };
                    }
                    Ok(())
                })
            })
            .collect();
        let begun = wait_for("refusals", || Ok((refused.load(Ordering::SeqCst) > 1000).then_some(())));
        let (start, before) = (Instant::now(), passed.load(Ordering::SeqCst));
        if begun.is_ok() {
            std::thread::sleep(time);
        }
        let seen = (passed.load(Ordering::SeqCst) - before, start.elapsed());
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().map_err(|_| "a client panicked".to_owned())??;
        }
        begun.map(|()| seen)
    })
}

/// What a key owes is not forgiven by a reload.
fn reload(plan: &Plan, ground: &Ground, threads: usize, report: &mut Report) -> Result<(), String> {
    let status = |target: &str| ground.once(target).map(|answer| answer.status());
    let before = (status("/slow/file.bin")?, status("/slow/file.bin")?);
    ground.configure(&plan.binary, &conf(threads, 1))?;
    signal("HUP", ground.master()?);
    wait_for("the reload", || Ok((ground.once("/generation")?.body == b"1").then_some(())))?;
    let after = status("/slow/file.bin")?;
    let holds = before == (Some(200), Some(503)) && after == Some(503);
    report.check("a zone survives a reload", when(holds, format!("{before:?}, then {after:?}")));
    Ok(())
}

/// Clients that go away in the middle of a request are counted no more.
fn abort(ground: &Ground, report: &mut Report) -> Result<(), String> {
    let mut refused = 0;
    for _ in 0..20 {
        let mut clients = (0..HELD + 4).map(|_| ground.client()).collect::<Result<Vec<_>, _>>()?;
        for client in &mut clients {
            client.expect_answer_to("GET");
            client.send(b"GET /held/x HTTP/1.1\r\nHost: a\r\n\r\n").map_err(text)?;
        }
        // A part waits for the answer, the others leave at once.
        for client in clients.iter_mut().skip(HELD / 2) {
            refused += usize::from(client.answer().map_err(text)?.status() == Some(503));
        }
    }
    let free =
        wait_for("a free place", || Ok((ground.once("/alone/x")?.status() == Some(200)).then_some(())));
    let seen = format!("{refused} were refused meanwhile");
    report.check("connections that end are not counted", free.map(|()| seen));
    report.check("connections beyond the limit are refused", when(refused > 0, String::new()));
    Ok(())
}
