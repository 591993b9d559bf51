//! Side-by-side benchmark: the same work on two proxies in alternation, told as CPU time per request.
//! One binary holds the load generator, the origin and the conductor, so nothing else has to be installed.

mod application;
mod args;
mod clients;
mod engine;
mod error;
mod head;
mod http2;
mod load;
mod load_time;
mod origin;
mod pick;
mod process;
mod report;
mod round;
mod rows;
mod run;
mod sample;
mod scale;
mod server;
mod table;
mod wire;

use std::process::ExitCode;

use args::Args;
use error::BenchError;

const USAGE: &str = "\
usage: tidegate-bench run    [--bin-a PATH] [--bin-b PATH] [--rows NAME,...] [--rounds N] [--seconds S]
                             [--server-core N] [--load-core N] [--idle N] [--json FILE] [--quick] [--list]
       tidegate-bench load-time [--bin-a PATH] [--bin-b PATH] [--rounds N]
       tidegate-bench pick   [--peers N] [--rounds N]
       tidegate-bench origin [--listen ADDR:PORT]
       tidegate-bench load   --target ADDR:PORT [--path /100] [--body BYTES] [--connections N]
                             [--seconds S | --count N] [--warm-up S] [--pid PID] [--close] [--streams N] [--grpc]";

fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate-bench: {error}");
            if matches!(error, BenchError::Usage(_)) {
                eprintln!("{USAGE}");
            }
            ExitCode::from(2)
        }
    }
}

fn dispatch() -> Result<ExitCode, BenchError> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let args = Args::new(words);
    match command.as_str() {
        "run" => run::run(args),
        "load-time" => load_time::load_time(args),
        "pick" => pick::pick(args),
        "origin" => load::serve_origin(args),
        "load" => load::load(args),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(BenchError::Usage(format!("unknown command \"{other}\""))),
    }
}
