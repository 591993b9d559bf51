//! What a run found out, as data: medians, ratios and the JSON that keeps every round.
//! The ratio is the median of the rounds' own ratios, not the ratio of medians: rounds share their noise.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rows::Row;
use crate::sample::{Sample, median};

/// One of the two servers.
pub struct Contender {
    /// Its name in the table.
    pub label: String,
    /// Its program.
    pub binary: PathBuf,
    version: String,
}

impl Contender {
    /// Both servers; programs of the same name get letters.
    pub fn pair(a: PathBuf, b: PathBuf) -> [Self; 2] {
        let same = a.file_name() == b.file_name();
        [(a, "a"), (b, "b")].map(|(binary, letter)| {
            let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let label = if same { format!("{name} ({letter})") } else { name };
            Self { label, version: version(&binary), binary }
        })
    }
}

/// The conditions of a run.
pub struct Bench {
    /// The servers, `a` first.
    pub contenders: [Contender; 2],
    /// Rounds per row.
    pub rounds: usize,
    /// Length of one measurement in seconds.
    pub seconds: f64,
}

/// The samples of one row.
pub struct RowResult {
    /// What was measured.
    pub row: Row,
    /// A sample per round for each contender.
    pub samples: [Vec<Sample>; 2],
    /// Why a contender has no further samples.
    pub failed: [Option<String>; 2],
}

impl RowResult {
    /// No samples yet.
    pub fn new(row: Row) -> Self {
        Self { row, samples: [Vec::new(), Vec::new()], failed: [None, None] }
    }

    /// The median of one figure of one contender; `None` without samples.
    pub fn median(&self, which: usize, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        let samples = self.samples.get(which).filter(|samples| !samples.is_empty())?;
        Some(median(samples.iter().map(figure)))
    }

    /// The ratios b to a of the figure that the row is about, one per round that both finished.
    pub fn ratios(&self) -> Vec<f64> {
        let [a, b] = &self.samples;
        let both = a.iter().zip(b).map(|(a, b)| (cost(a), cost(b)));
        both.filter(|(a, _)| *a > 0.0).map(|(a, b)| b / a).collect()
    }

    /// Errors of one contender over all rounds.
    pub fn errors(&self, which: usize) -> u64 {
        self.samples.get(which).map_or(0, |samples| samples.iter().map(|sample| sample.errors).sum())
    }

    /// Whether both contenders answered everything.
    pub fn is_clean(&self) -> bool {
        self.failed.iter().all(Option::is_none) && self.errors(0) + self.errors(1) == 0
    }
}

/// What a row compares: CPU time per request, or memory per connection where it holds connections.
pub fn cost(sample: &Sample) -> f64 {
    sample.per_connection.unwrap_or(sample.cpu_us)
}

impl Bench {
    /// The conditions of a run about to start.
    pub fn new(contenders: [Contender; 2], rounds: usize, seconds: f64) -> Self {
        Self { contenders, rounds, seconds }
    }

    /// Everything that was measured, as one JSON object.
    pub fn json(&self, rows: &[RowResult]) -> String {
        let [a, b] = &self.contenders;
        let rows: Vec<String> = rows.iter().map(row_json).collect();
        format!(
            "{{\n  \"a\": {},\n  \"b\": {},\n  \"kernel\": {},\n  \"congestion_control\": {},\n  \
             \"cpu\": {},\n  \"rounds\": {},\n  \"seconds\": {},\n  \"rows\": [\n{}\n  ]\n}}\n",
            contender_json(a),
            contender_json(b),
            quote(read("/proc/sys/kernel/osrelease").trim()),
            quote(read("/proc/sys/net/ipv4/tcp_congestion_control").trim()),
            quote(&cpu_model()),
            self.rounds,
            self.seconds,
            rows.join(",\n")
        )
    }
}

/// One measurement as a JSON object on one line.
pub fn sample_json(sample: &Sample) -> String {
    let per_connection =
        sample.per_connection.map_or_else(|| "null".to_owned(), |bytes| format!("{bytes:.1}"));
    format!(
        "{{\"requests\": {}, \"seconds\": {:.4}, \"cpu_us\": {:.4}, \"user_us\": {:.3}, \"rps\": {:.1}, \
         \"busy\": {:.4}, \"wait\": {:.4}, \"rss_kib\": {}, \"bytes_per_connection\": {per_connection}, \
         \"errors\": {}, \"reconnects\": {}}}",
        sample.requests,
        sample.seconds,
        sample.cpu_us,
        sample.user_us,
        sample.rps,
        sample.busy,
        sample.wait,
        sample.rss_kib,
        sample.errors,
        sample.reconnects
    )
}

fn row_json(result: &RowResult) -> String {
    let ratios = result.ratios();
    let list: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.4}")).collect();
    let ratio =
        if ratios.is_empty() { "null".to_owned() } else { format!("{:.4}", median(ratios.into_iter())) };
    let side = |which: usize| {
        let samples: Vec<String> = result.samples[which].iter().map(sample_json).collect();
        let failed = result.failed[which].as_deref().map_or_else(|| "null".to_owned(), quote);
        let cost = result.median(which, cost).map_or_else(|| "null".to_owned(), |cost| format!("{cost:.4}"));
        format!(
            "{{\"median\": {cost}, \"failed\": {failed}, \"rounds\": [\n        {}]}}",
            samples.join(",\n        ")
        )
    };
    format!(
        "    {{\"name\": {}, \"connections\": {}, \"ratio\": {ratio}, \"ratios\": [{}],\n      \
         \"a\": {},\n      \"b\": {}}}",
        quote(result.row.name),
        result.row.connections,
        list.join(", "),
        side(0),
        side(1)
    )
}

fn contender_json(contender: &Contender) -> String {
    format!(
        "{{\"label\": {}, \"binary\": {}, \"version\": {}}}",
        quote(&contender.label),
        quote(&contender.binary.display().to_string()),
        quote(&contender.version)
    )
}

fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The first line that the program says to `-v`.
fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("-v").output().ok();
    let text = output.map(|output| [output.stderr, output.stdout].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

fn cpu_model() -> String {
    let text = read("/proc/cpuinfo");
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.map(|rest| rest.trim_start_matches([':', ' ', '\t']).to_owned()).unwrap_or_default()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    #[test]
    fn quotes() {
        let check = |input: &str, expected: &str| assert_eq!(quote(input), expected);
        check("plain", "\"plain\"");
        check("a\"b\\c", "\"a\\\"b\\\\c\"");
        check("a\nb", "\"a\\u000ab\"");
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut result = RowResult::new(ROWS[0]);
        let samples = |costs: [f64; 3]| costs.map(|cpu_us| Sample { cpu_us, ..Sample::default() }).to_vec();
        result.samples = [samples([10.0, 20.0, 10.0]), samples([8.0, 16.0, 9.0])];
        assert_eq!(result.ratios(), [0.8, 0.8, 0.9]);
        assert_eq!(result.median(1, cost), Some(9.0));
        assert!(result.is_clean());
    }
}
