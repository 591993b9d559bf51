//! The table on the terminal: a line per row as soon as it is measured, remarks at the end.
//! A remark says when a figure should not be trusted: a proxy not saturated, or a core not its own.

use std::fmt::Write;

use crate::report::{Bench, RowResult, cost};
use crate::sample::{CROWDED, Sample, median};

/// Below this part of a core the load, not the proxy, was the bottleneck.
const SATURATED: f64 = 0.95;

/// The conditions and the heads of the columns.
pub fn header(bench: &Bench) -> String {
    let [a, b] = &bench.contenders;
    let mut out =
        format!("medians of {} rounds of {} s in alternation; ratio is ", bench.rounds, bench.seconds);
    let _ = writeln!(out, "{} to {}, lower is better\n", b.label, a.label);
    let labels = [&a.label, &b.label].map(|label| label.chars().take(12).collect::<String>());
    let _ = writeln!(
        out,
        "{:16}{:^28}{:^24}{:^20}{:^20}",
        "", "CPU µs (user) a request", "ratio (lowest–highest)", "requests/s", "RSS MB"
    );
    let _ = writeln!(
        out,
        "{:16}{:>14}{:>14}{:24}{:>10}{:>10}{:>10}{:>10}",
        "row",
        labels[0],
        labels[1],
        "",
        short(&labels[0], 'a'),
        short(&labels[1], 'b'),
        short(&labels[0], 'a'),
        short(&labels[1], 'b')
    );
    out
}

/// The line of one row.
pub fn row(result: &RowResult) -> String {
    let held = result.samples.iter().flatten().any(|sample| sample.per_connection.is_some());
    let costs = [0, 1].map(|which| match result.median(which, cost) {
        None => "failed".to_owned(),
        Some(bytes) if held => format!("{bytes:.0} B"),
        Some(cpu) => {
            let user = result.median(which, |sample| sample.user_us).unwrap_or(0.0);
            if cpu < 100.0 { format!("{cpu:.2} ({user:.1})") } else { format!("{cpu:.0} ({user:.0})") }
        }
    });
    let rates = [0, 1].map(|which| match result.median(which, |sample| sample.rps) {
        Some(rps) if !held => format!("{rps:.0}"),
        _ => "-".to_owned(),
    });
    let memory = [0, 1].map(|which| {
        let kib = result.median(which, |sample| sample.rss_kib as f64);
        kib.map_or_else(|| "-".to_owned(), |kib| format!("{:.1}", kib / 1024.0))
    });
    format!(
        "{:16}{:>14}{:>14}{:^24}{:>10}{:>10}{:>10}{:>10}{}\n",
        result.row.name,
        costs[0],
        costs[1],
        ratio(&result.ratios()),
        rates[0],
        rates[1],
        memory[0],
        memory[1],
        marks(result)
    )
}

/// What the reader has to know about the rows that carry a mark, and why a row failed.
pub fn notes(rows: &[RowResult]) -> String {
    let mut out = String::new();
    let marks: String = rows.iter().map(marks).collect();
    let remarks = [
        ('*', "* a server was less than 95 % busy, the load core was the bottleneck: its wake-ups count"),
        ('!', "! server or load waited more than 5 % of the time for its core: something else ran there"),
        ('E', "E responses were wrong or missing"),
    ];
    for (_, remark) in remarks.iter().filter(|(mark, _)| marks.contains(*mark)) {
        let _ = writeln!(out, "{remark}");
    }
    for result in rows {
        for (failed, letter) in result.failed.iter().zip(["a", "b"]) {
            if let Some(reason) = failed {
                let _ = writeln!(out, "{}: {letter} failed: {reason}", result.row.name);
            }
        }
        if result.row.mode == crate::clients::Mode::Idle {
            let _ = writeln!(
                out,
                "{}: resident bytes for each of {} idle connections in place of µs",
                result.row.name, result.row.connections
            );
        }
    }
    out
}

fn marks(result: &RowResult) -> String {
    let either = |test: &dyn Fn(&Sample) -> f64, holds: &dyn Fn(f64) -> bool| {
        [0, 1].into_iter().filter_map(|which| result.median(which, test)).any(holds)
    };
    let crowded = either(&|sample| sample.wait, &|wait| wait > CROWDED);
    let loaded = |sample: &Sample| if sample.per_connection.is_some() { 1.0 } else { sample.busy };
    let mut marks = String::new();
    if crowded {
        marks.push_str(" !");
    } else if either(&loaded, &|busy| busy < SATURATED) {
        marks.push_str(" *");
    }
    if result.errors(0) + result.errors(1) > 0 {
        marks.push_str(" E");
    }
    marks
}

fn ratio(ratios: &[f64]) -> String {
    let lowest = ratios.iter().copied().min_by(f64::total_cmp);
    let highest = ratios.iter().copied().max_by(f64::total_cmp);
    match (lowest, highest) {
        (Some(lowest), Some(highest)) => {
            format!("{:.3} ({lowest:.2}–{highest:.2})", median(ratios.iter().copied()))
        }
        _ => "-".to_owned(),
    }
}

/// A label that fits a narrow column, or else its letter.
fn short(label: &str, letter: char) -> String {
    if label.len() <= 9 { label.to_owned() } else { letter.to_string() }
}
