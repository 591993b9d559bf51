//! The tables that count samples: when each is shown (`stts`, `ctts`), and which are key frames (`stss`).
//!
//! Numbers of samples are 32 bits wide in the file, and what is written keeps to that as nginx does.

use super::Asked;
use super::atom::{Word, low};
use super::fault::Fault;
use super::trak::Trak;

/// Where a time lies among the rows of `stts`.
struct Place {
    row: usize,
    /// Samples of that row in front of it.
    within: u32,
    /// Samples of all rows in front of it.
    sample: u64,
    /// How long each sample of the row lasts.
    duration: u32,
}

/// The place of a time, or the number of all samples where they end before it.
fn find(rows: &[[Word; 2]], mut time: u64) -> Result<Place, u64> {
    let mut before = 0;
    for (row, [count, duration]) in rows.iter().enumerate() {
        let (count, duration) = (u32::from_be_bytes(*count), u32::from_be_bytes(*duration));
        let lasts = u64::from(count) * u64::from(duration);
        if time < lasts {
            // No row lasts for any time whose samples do not.
            let within = low(time / u64::from(duration.max(1)));
            return Ok(Place { row, within, sample: before + u64::from(within), duration });
        }
        before += u64::from(count);
        time -= lasts;
    }
    Err(before)
}

/// How many samples lie between the last key frame and this sample, which is counted from zero.
fn behind_key_frame(rows: &[[Word; 1]], sample: u32) -> Result<u32, Fault> {
    let wanted = sample.wrapping_add(1);
    let mut behind = 0;
    for [key_frame] in rows {
        match u32::from_be_bytes(*key_frame) {
            0 => return Err(Fault::Invalid("zero sync sample")),
            key_frame if key_frame > wanted => break,
            key_frame => behind = wanted - key_frame,
        }
    }
    Ok(behind)
}

impl Trak {
    /// `stts`: finds the samples of the part.
    pub(super) fn crop_times(&mut self, moov: &mut [u8], asked: &Asked) -> Result<(), Fault> {
        self.crop_times_in_front(moov, asked)?;
        if let Some(length) = asked.length(self.timescale) {
            self.crop_times_behind(moov, length.saturating_add(self.prefix));
        }
        Ok(())
    }

    fn crop_times_in_front(&mut self, moov: &mut [u8], asked: &Asked) -> Result<(), Fault> {
        const OUT: Fault = Fault::OutOf { which: "start", atom: "stts samples" };
        let table = self.stts.as_mut().ok_or(Fault::Missing("stts atoms were"))?;
        let place = find(table.rows(moov), asked.start(self.timescale)).map_err(|_| OUT)?;
        let mut back = match &self.stss {
            Some(stss) if asked.starts_with_key_frame => {
                behind_key_frame(stss.rows(moov), low(place.sample))?
            }
            _ => 0,
        };
        let first = place.sample.checked_sub(u64::from(back)).ok_or(OUT)?;
        let rows = table.rows(moov);
        let (mut row, mut within, mut duration) = (place.row, place.within, place.duration);
        let mut prefix = 0u64;
        while within < back {
            prefix = prefix.saturating_add(u64::from(within) * u64::from(duration));
            back -= within;
            row = row.checked_sub(1).ok_or(OUT)?;
            let [count, lasts] = rows.get(row).ok_or(OUT)?;
            within = u32::from_be_bytes(*count);
            duration = u32::from_be_bytes(*lasts);
        }
        within -= back;
        prefix = prefix.saturating_add(u64::from(back) * u64::from(duration));
        let [count, _] = rows.get_mut(row).ok_or(OUT)?;
        *count = (u32::from_be_bytes(*count) - within).to_be_bytes();
        table.drop_front(row);
        self.prefix = prefix;
        self.duration = self.duration.saturating_add(prefix);
        self.samples.start = first;
        Ok(())
    }

    fn crop_times_behind(&mut self, moov: &mut [u8], time: u64) {
        let Some(table) = &mut self.stts else { return };
        let rows = table.rows(moov);
        let count = match find(rows, time) {
            Err(count) => count,
            Ok(place) => {
                if let Some([count, _]) = rows.get_mut(place.row) {
                    *count = place.within.to_be_bytes();
                }
                table.keep(place.row + 1);
                place.sample
            }
        };
        self.samples.end = self.samples.start + count;
    }

    /// `stss`: key frames are counted from the first sample of the part, and from one.
    pub(super) fn crop_sync_samples(&mut self, moov: &mut [u8], asked: &Asked) {
        let Some(table) = &mut self.stss else { return };
        let start = low(self.samples.start);
        let before = |rows: &[[Word; 1]], sample: u32| {
            rows.iter().take_while(|[row]| u32::from_be_bytes(*row) < sample).count()
        };
        table.drop_front(before(table.rows(moov), start.wrapping_add(1)));
        if asked.has_end() {
            table.keep(before(table.rows(moov), low(self.samples.end).wrapping_add(1)));
        }
        for [sample] in table.rows(moov) {
            *sample = u32::from_be_bytes(*sample).wrapping_sub(start).to_be_bytes();
        }
    }

    /// `ctts`: by how much samples are shown later than they are decoded. Without a row left there is no atom.
    pub(super) fn crop_composition(&mut self, moov: &mut [u8], asked: &Asked) {
        let count = self.count();
        let Some(table) = &mut self.ctts else { return };
        let rows = table.rows(moov);
        match find_composition(rows, low(self.samples.start)) {
            None => table.drop_front(usize::MAX),
            Some((row, within)) => {
                if let Some([count, _]) = rows.get_mut(row) {
                    *count = (u32::from_be_bytes(*count) - within).to_be_bytes();
                }
                table.drop_front(row);
            }
        }
        let rows = table.rows(moov);
        if asked.has_end()
            && let Some((row, within)) = find_composition(rows, low(count))
        {
            if let Some([count, _]) = rows.get_mut(row) {
                *count = within.to_be_bytes();
            }
            table.keep(row + 1);
        }
        if table.len() == 0 {
            self.ctts = None;
        }
    }
}

/// In which row of `ctts` a sample lies, counted from zero, and behind how many others there.
fn find_composition(rows: &[[Word; 2]], mut sample: u32) -> Option<(usize, u32)> {
    for (row, [count, _]) in rows.iter().enumerate() {
        let count = u32::from_be_bytes(*count);
        if sample < count {
            return Some((row, sample));
        }
        sample -= count;
    }
    None
}
