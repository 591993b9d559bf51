//! The parts of the benchmark on their own: an origin, and a load generator against any server.
//! Both serve to look at one thing with a profiler; `run` uses the same engine for both at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::clients::{Ask, Mode, Plan, Speech};
use crate::engine::Engine;
use crate::error::{BenchError, Context};
use crate::http2::Call;
use crate::origin::BODIES;
use crate::process::tree;
use crate::report::sample_json;
use crate::sample::{Extent, Sample, Slice};
use crate::wire::Security;

/// `origin`: listens, prints its address and answers until it is ended.
///
/// # Errors
/// [`BenchError`] for a wrong command line or an address that cannot be listened on.
pub fn serve_origin(mut args: Args) -> Result<ExitCode, BenchError> {
    let listen = args.option("--listen")?.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    args.finish()?;
    let failed = || format!("origin on {listen}");
    let mut engine = Engine::new().context(failed)?;
    println!("{}", engine.start_origin(listen).context(failed)?);
    loop {
        engine.turn().context(failed)?;
    }
}

/// `load`: loads a server and prints one line of JSON; exits with 1 when a response was wrong.
///
/// # Errors
/// [`BenchError`] for a wrong command line or a server that does not answer.
pub fn load(mut args: Args) -> Result<ExitCode, BenchError> {
    let target = args.option("--target")?;
    let target = target.ok_or_else(|| BenchError::Usage("load needs --target".to_owned()))?;
    let path = args.option("--path")?.unwrap_or_else(|| "/100".to_owned());
    let known = BODIES.iter().find(|(name, _)| *name == path).map_or(0, |(_, len)| *len as u64);
    let body = args.option("--body")?.unwrap_or(known);
    let connections = args.option("--connections")?.unwrap_or(64);
    let seconds = Duration::from_secs_f64(args.option("--seconds")?.unwrap_or(3.0));
    let extent = args.option("--count")?.map_or(Extent::Time(seconds), Extent::Count);
    let warm_up = Duration::from_secs_f64(args.option("--warm-up")?.unwrap_or(0.5));
    let tree = args.option("--pid")?.map(tree).unwrap_or_default();
    let mode = if args.switch("--close") { Mode::Close } else { Mode::KeepAlive };
    let security = match (args.switch("--tls"), args.switch("--resume")) {
        (_, true) => Security::Resumed,
        (true, false) => Security::Tls,
        (false, false) => Security::Plain,
    };
    let call = if args.switch("--grpc") { Call::Grpc } else { Call::Get };
    let streams = args.option("--streams")?;
    let speech = streams.map_or(Speech::Http1, |streams| Speech::Http2(call, streams));
    args.finish()?;

    let failed = || format!("load on {target}");
    let mut engine = Engine::new().context(failed)?;
    engine.start_clients(Plan { target, asks: vec![Ask::new(&path)], body, mode, security, speech });
    engine.open(connections).context(failed)?;
    engine.run_until(Instant::now() + warm_up).context(failed)?;
    engine.drain().context(failed)?;
    let slice = Slice::take(&mut engine, &tree, extent).context(failed)?;
    let sample = Sample::new(&slice, &tree, &engine.tally());
    println!("{}", sample_json(&sample));
    match engine.tally().first_error {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => {
            eprintln!("tidegate-bench: {} errors, the first: {error}", sample.errors);
            Ok(ExitCode::FAILURE)
        }
    }
}
