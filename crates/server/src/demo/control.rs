//! The demo's switchboard: tells how the origins are, stops and starts them.
//!
//! It is an origin of its own kind, behind Tidegate like the others, and stays when they are stopped.

use std::io::{self, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::message::{Answer, Seen, quoted};
use super::origin::Origin;

/// Starts it; returns its port on 127.0.0.1.
///
/// # Errors
/// Those of binding and of starting a thread.
pub(super) fn start(origins: Vec<Arc<Origin>>) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let serve = move || {
        // One connection after the other: each carries one short request.
        for stream in listener.incoming().flatten() {
            let _ = serve_one(&stream, &origins);
        }
    };
    std::thread::Builder::new().name("control".to_owned()).spawn(serve)?;
    Ok(port)
}

fn serve_one(stream: &TcpStream, origins: &[Arc<Origin>]) -> io::Result<()> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let Some(seen) = Seen::read(&mut BufReader::new(stream))? else { return Ok(()) };
    let (status, kind, body) = obey(&seen, origins);
    Answer { status, kind, header: "Connection: close", body: &body }.write(&mut &*stream)
}

/// Does what is asked for; returns status, media type and body.
fn obey(seen: &Seen, origins: &[Arc<Origin>]) -> (&'static str, &'static str, String) {
    let (method, path) = seen.target();
    let mut words = path.trim_matches('/').split('/').skip(1);
    let (name, action) = (words.next(), words.next());
    let origin = name.and_then(|name| origins.iter().find(|origin| origin.name == name));
    match (method, name, origin, action) {
        (_, None, ..) => {}
        ("POST", _, Some(origin), Some("stop")) => origin.stop(),
        ("POST", _, Some(origin), Some("start")) => {
            if let Err(error) = origin.start() {
                return ("500 Internal Server Error", "text/plain", format!("{error}\n"));
            }
        }
        _ => {
            let usage = "want GET /origins, or POST /origins/NAME/stop or /origins/NAME/start\n";
            return ("404 Not Found", "text/plain", usage.to_owned());
        }
    }
    match seen.wants_json() {
        true => ("200 OK", "application/json", state_json(origins)),
        false => ("200 OK", "text/plain", state_text(origins)),
    }
}

fn state_json(origins: &[Arc<Origin>]) -> String {
    let list: Vec<String> = origins
        .iter()
        .map(|origin| {
            format!(
                "{{\"name\":{},\"port\":{},\"weight\":{},\"running\":{},\"answered\":{}}}",
                quoted(origin.name),
                origin.port,
                origin.weight,
                origin.is_running(),
                origin.answered.load(Ordering::Relaxed)
            )
        })
        .collect();
    format!("[{}]\n", list.join(","))
}

fn state_text(origins: &[Arc<Origin>]) -> String {
    let line = |origin: &Arc<Origin>| {
        format!(
            "{:8} 127.0.0.1:{}  weight {}  {}  {} requests answered\n",
            origin.name,
            origin.port,
            origin.weight,
            if origin.is_running() { "running" } else { "stopped" },
            origin.answered.load(Ordering::Relaxed)
        )
    };
    origins.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn origins_are_switched() {
        let origin = Origin::start_new("amber", 3).expect("origin");
        let port = start(vec![Arc::clone(&origin)]).expect("control");
        let check = |request: &str, part: &str, is_running: bool| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
            write!(stream, "{request} HTTP/1.0\r\nAccept: application/json\r\n\r\n").expect("write");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("read");
            assert!(text.contains(part), "{request}: {text}");
            assert_eq!(origin.is_running(), is_running, "{request}");
        };
        check("GET /origins", "\"weight\":3,\"running\":true,\"answered\":0", true);
        check("POST /origins/amber/stop", "\"running\":false", false);
        check("GET /origins/amber/start", "404", false);
        check("POST /origins/amber/start", "\"running\":true", true);
        check("POST /origins/green/stop", "404", true);
        check("POST /origins/amber", "404", true);
        origin.stop();
    }
}
