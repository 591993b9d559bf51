//! Slow and broken clients and origins, and a worker without descriptors.

mod clients;
mod descriptors;
mod origins;

use std::time::Duration;

use crate::Plan;
use crate::report::Report;

/// The time-outs in the configurations.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How much later than its time-out something may end on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    clients::run(plan, report)?;
    origins::run(plan, report)?;
    descriptors::run(plan, report)
}

/// Whether something took its time-out, neither less nor much more.
fn timely(took: Duration) -> Result<String, String> {
    // Coarse clocks may be early by some milliseconds.
    let least = TIMEOUT - Duration::from_millis(50);
    crate::report::when((least..TIMEOUT + SLACK).contains(&took), format!("{} ms", took.as_millis()))
}
