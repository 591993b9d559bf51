//! The cache and the buffers under what time, load and failing disks do to them.

mod crash;
mod disk;
mod drink;
mod limits;
mod origin;
mod slow;
mod stampede;

use crate::Plan;
use crate::report::Report;

/// Runs the part.
pub fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    stampede::run(plan, report)?;
    crash::run(plan, report)?;
    disk::run(plan, report)?;
    slow::run(plan, report)?;
    limits::run(plan, report)
}
