//! Origins that do not answer, stop in the middle, or talk nonsense.

use std::time::Instant;

use testkit::message::{Ending, Message};
use testkit::origin::ReplyAct;

use super::timely;
use crate::Plan;
use crate::ground::{Ground, ask, rule};
use crate::report::{Report, when};

const CONF: &str = "http {
        proxy_http_version 1.1; proxy_read_timeout 1s; proxy_connect_timeout 1s;
        upstream origin { server @ORIGIN1@ max_fails=0; keepalive 4; }
        server {
            listen @ADDR1@;
            location / { proxy_pass http://origin; proxy_set_header Connection \"\"; }
            location /direct/ { proxy_pass http://origin/; proxy_set_header Connection \"\"; proxy_buffering off; }
            location /dead/ { proxy_pass http://@DEAD1@; }
        }
    }";

/// Bytes of a body of which half is sent.
const BODY: usize = 100_000;

fn raw(text: &str) -> ReplyAct {
    ReplyAct::Raw(text.into())
}

/// Checks what clients are told about such origins.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let half = [
        ReplyAct::Status("200 OK".into()),
        ReplyAct::Header("Content-Length".into(), BODY.to_string()),
        ReplyAct::Pattern(BODY / 2),
    ];
    let with = |last| [half.as_slice(), &[last]].concat();
    let chunks = |last| [ReplyAct::Chunk("abc".into()), ReplyAct::Unended, last];
    let rules = vec![
        rule("/silent", &[ReplyAct::Stall]),
        rule("/stall-head", &[raw("HTTP/1.1 200 OK\\r\\nX-A: "), ReplyAct::Stall]),
        rule("/stall-body", &with(ReplyAct::Stall)),
        rule("/close", &[ReplyAct::Close]),
        rule("/close-head", &[raw("HTTP/1.1 200 OK\\r\\nX-A: "), ReplyAct::Close]),
        rule("/close-body", &with(ReplyAct::Close)),
        rule("/close-chunk", &chunks(ReplyAct::Close)),
        rule("/stall-chunk", &chunks(ReplyAct::Stall)),
        rule("/bad-header", &[raw("HTTP/1.1 200 OK\\r\\nX\\0A: b\\r\\n\\r\\n"), ReplyAct::Close]),
        rule("/huge-head", &[raw(&format!("HTTP/1.1 200 OK\\r\\nX-A: {}\\r\\n\\r\\n", "a".repeat(100_000)))]),
        rule("*", &[ReplyAct::Echo]),
    ];
    let mut ground = Ground::new(1, rules)?;
    ground.start(&plan.binary, CONF)?;
    for (target, status) in
        [("/close", 502), ("/close-head", 502), ("/bad-header", 502), ("/huge-head", 502), ("/dead/", 502)]
    {
        report.check(&format!("{target} is {status}"), answered(&ground, target, status).map(drop_text));
    }
    for target in ["/silent", "/stall-head"] {
        let start = Instant::now();
        let answer = answered(&ground, target, 504);
        report.check(&format!("{target} is 504 at its time"), answer.and_then(|_| timely(start.elapsed())));
    }
    for target in ["/stall-body", "/direct/stall-body", "/stall-chunk", "/direct/stall-chunk"] {
        let start = Instant::now();
        let cut = cut_off(&ground, target).and_then(|_| timely(start.elapsed()));
        report.check(&format!("{target} is cut off at its time"), cut);
    }
    for target in ["/close-body", "/direct/close-body", "/close-chunk", "/direct/close-chunk"] {
        report.check(&format!("{target} is cut off"), cut_off(&ground, target));
    }
    let after = (0..20).map(|nth| answered(&ground, &format!("/after/{nth}"), 200));
    let after: Result<Vec<Message>, String> = after.collect();
    report.check("connections to the origin are sound afterwards", after.map(|_| String::new()));
    Ok(())
}

fn drop_text(_: Message) -> String {
    String::new()
}

/// The answer on a connection that must go on afterwards.
fn answered(ground: &Ground, target: &str, status: u16) -> Result<Message, String> {
    let mut client = ground.client()?;
    let answer = ask(&mut client, target)?;
    if answer.status() != Some(status) {
        return Err(format!("answered {:?}", answer.start));
    }
    let next = ask(&mut client, "/next").map_err(|error| format!("the next request: {error}"))?;
    if next.status() == Some(200) { Ok(answer) } else { Err(format!("then answered {:?}", next.start)) }
}

/// A good head and less than the whole body, marked by the end of the connection.
fn cut_off(ground: &Ground, target: &str) -> Result<String, String> {
    let answer = ground.once(target)?;
    if answer.status() != Some(200) {
        return Err(format!("answered {:?}", answer.start));
    }
    let length = answer.body.len();
    when(answer.ending == Ending::Truncated && length > 0, format!("{length} bytes came"))
}
