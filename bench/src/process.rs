//! What the kernel knows of a server's processes: CPU time in nanoseconds, waiting, memory.
//! CPU time is `schedstat`, summed over all threads of the whole tree, so no helper thread or process hides.

use std::fs;
use std::ops::{AddAssign, Sub};

/// CPU figures of a set of processes since they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a core, in nanoseconds.
    pub cpu_ns: u64,
    /// Time ready to run while something else had the core, in nanoseconds.
    pub wait_ns: u64,
    /// User time in clock ticks; coarse, good for the share only.
    pub user_ticks: u64,
    /// System time in clock ticks; coarse, good for the share only.
    pub system_ticks: u64,
}

impl Usage {
    /// The sum over `pids`; a process that is gone counts nothing.
    pub fn of(pids: &[u32]) -> Self {
        let mut sum = Self::default();
        for &pid in pids {
            for (cpu_ns, wait_ns) in threads(pid).filter_map(|path| schedstat(&path)) {
                sum.cpu_ns += cpu_ns;
                sum.wait_ns += wait_ns;
            }
            if let Some(stat) = Stat::of(pid) {
                sum.user_ticks += stat.user_ticks;
                sum.system_ticks += stat.system_ticks;
            }
        }
        sum
    }

    /// User time as a part of user and system time, between 0 and 1.
    pub fn user_share(&self) -> f64 {
        let all = self.user_ticks + self.system_ticks;
        if all == 0 { 0.0 } else { self.user_ticks as f64 / all as f64 }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.cpu_ns += more.cpu_ns;
        self.wait_ns += more.wait_ns;
        self.user_ticks += more.user_ticks;
        self.system_ticks += more.system_ticks;
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }
}

/// The process `root` and all its descendants, `root` first.
pub fn tree(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && let Some(stat) = Stat::of(pid)
        {
            parents.push((pid, stat.parent));
        }
    }
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(&parent) = tree.get(at) {
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    tree
}

/// The processes of `tree` that do the work: all but the master, or the master when it is alone.
pub fn workers(tree: &[u32]) -> &[u32] {
    match tree {
        [_, workers @ ..] if !workers.is_empty() => workers,
        alone => alone,
    }
}

/// Resident memory of `pids` together, in KiB; pages that they share count for each.
pub fn resident_kib(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .map(|s| rss(&s))
        .sum()
}

/// The soft limit on open files of this process.
pub fn open_files_limit() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Whether this process runs as root, told by the owner of its directory in `/proc`.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn threads(pid: u32) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(format!("{}/schedstat", entry.path().to_str()?)))
}

fn schedstat(path: &str) -> Option<(u64, u64)> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.split_whitespace().map_while(|field| field.parse().ok());
    Some((fields.next()?, fields.next()?))
}

fn rss(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses `/proc/PID/stat`; the name may hold spaces and brackets, so it counts from the last one.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: fields.get(11)?.parse().ok()?,
            system_ticks: fields.get(12)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_counts_from_the_last_bracket() {
        let check = |input: &str, expected| {
            let stat = Stat::parse(input).map(|s| (s.parent, s.user_ticks, s.system_ticks));
            assert_eq!(stat, expected, "{input}");
        };
        check("7 (sh) S 3 1 1 0 -1 4 5 6 7 8 15 4 0 0 20", Some((3, 15, 4)));
        check("7 (a) b (c)) R 9 1 1 0 -1 4 5 6 7 8 1 2 0", Some((9, 1, 2)));
        check("7 (sh) S 3", None);
        check("", None);
    }

    #[test]
    fn own_process_is_measured() {
        let me = std::process::id();
        assert_eq!(tree(me).first(), Some(&me));
        assert!(Usage::of(&[me]).cpu_ns > 0);
        assert!(resident_kib(&[me]) > 0);
    }

    #[test]
    fn the_master_is_no_worker_unless_alone() {
        assert_eq!(workers(&[1, 2, 3]), [2, 3]);
        assert_eq!(workers(&[1]), [1]);
    }
}
