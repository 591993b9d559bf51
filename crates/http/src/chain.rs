//! The body filters of one answer in a row, each with what waits in front of it.
//!
//! Filters work only while the client takes what comes of it, so a slow one holds back work and memory alike.

use std::io;
use std::task::Context;

use crate::chunk::{Chunk, Queue};
use crate::filters::{BodyFilter, ENOUGH, More, Sees, Taken, Wait};
use crate::request::Request;

/// The filters of one answer, the first to act first.
#[derive(Default)]
pub(crate) struct Chain {
    stages: Vec<Stage>,
}

/// What a call of [`Chain::run`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// What stands behind the bytes that came out.
    pub more: More,
    /// Work that was done, in bytes that only had to be read from a socket.
    pub work: u64,
}

/// Work of a step on nothing at all.
const STEP: u64 = 64 << 10;

struct Stage {
    filter: Box<dyn BodyFilter>,
    /// What came in and has not been looked at.
    input: Queue,
    /// What was taken from that for the filter and is not done yet.
    part: Queue,
    /// What stands behind `input`.
    more: More,
    /// The filter has more to say although nothing is left in front of it.
    owes: bool,
    /// It can do nothing before that.
    wait: Option<Wait>,
    is_ended: bool,
}

impl Chain {
    /// Adds a filter behind the others.
    pub fn push(&mut self, filter: Box<dyn BodyFilter>) {
        self.stages.push(Stage::new(filter));
    }

    /// Adds a filter in front of the others.
    pub fn push_first(&mut self, filter: Box<dyn BodyFilter>) {
        self.stages.insert(0, Stage::new(filter));
    }

    /// Hands a part of the body to the first filter.
    pub fn put(&mut self, mut part: Queue, more: More) {
        if let Some(first) = self.stages.first_mut() {
            first.input.append(&mut part);
            first.more = first.more.max(more);
        }
    }

    /// Bytes in memory that wait in front of filters.
    pub fn in_memory(&self) -> u64 {
        self.stages.iter().map(|stage| stage.input.in_memory() + stage.part.in_memory()).sum()
    }

    /// What waits in front of the first filter.
    pub fn waiting(&mut self) -> Option<&mut Queue> {
        self.stages.first_mut().map(|stage| &mut stage.input)
    }

    /// Whether a filter has something to do, and room for what comes of it.
    pub fn has_work(&self) -> bool {
        self.next(&Queue::default()).is_some()
    }

    /// Whether a filter waits for a subrequest.
    pub fn is_waiting(&self) -> bool {
        self.stages.iter().any(|stage| stage.wait.is_some())
    }

    /// Has the task woken when one of those that wait may go on.
    pub fn watch(&self, cx: &mut Context<'_>) {
        self.stages.iter().filter_map(|stage| stage.wait.as_ref()).for_each(|wait| wait.watch(cx));
    }

    /// Lets the filters work until `output` holds [`ENOUGH`], a flush or the end came out, nothing is left, or
    /// `most` of work is done; the last step may exceed it.
    ///
    /// # Errors
    /// The first filter's that cannot go on, or that of reading a file.
    pub fn run(&mut self, r: &mut Request, output: &mut Queue, most: u64) -> io::Result<Ran> {
        let mut ran = Ran { more: More::Later, work: 0 };
        // A body that ended stays ended, and what a filter sends behind a flush may follow it at once.
        while ran.work < most && output.len() < ENOUGH && ran.more == More::Later {
            let Some(index) = self.next(output) else { break };
            let (before, behind) = self.stages.split_at_mut(index + 1);
            let Some(stage) = before.last_mut() else { break };
            match behind.first_mut() {
                Some(next) => {
                    let more = stage.step(r, &mut next.input, &mut ran.work)?;
                    next.more = next.more.max(more);
                }
                None => ran.more = ran.more.max(stage.step(r, output, &mut ran.work)?),
            }
        }
        Ok(ran)
    }

    /// The last stage that has work and room behind it: what has come furthest goes on first.
    fn next(&self, output: &Queue) -> Option<usize> {
        let room = |index: usize| match self.stages.get(index + 1) {
            Some(next) => next.input.len() < ENOUGH,
            None => output.len() < ENOUGH,
        };
        (0..self.stages.len()).rev().find(|index| self.stages[*index].has_work() && room(*index))
    }
}

impl Stage {
    fn new(filter: Box<dyn BodyFilter>) -> Self {
        Self {
            filter,
            input: Queue::default(),
            part: Queue::default(),
            more: More::Later,
            owes: false,
            wait: None,
            is_ended: false,
        }
    }

    fn has_work(&self) -> bool {
        !self.is_ended
            && self.wait.as_ref().is_none_or(Wait::is_over)
            && (self.owes || self.more != More::Later || !self.part.is_empty() || !self.input.is_empty())
    }

    /// One piece of input through the filter, whose work is added. Says what stands behind what came out.
    fn step(&mut self, r: &mut Request, output: &mut Queue, work: &mut u64) -> io::Result<More> {
        *work += STEP;
        if self.part.is_empty() {
            match self.filter.sees() {
                Sees::Subrequests => self.part.append(&mut self.input),
                _ if !self.owes && self.input.has_place_first() => {
                    if let Some(Chunk::Subrequest(place)) = self.input.pop() {
                        output.push_subrequest(place);
                    }
                    return Ok(More::Later);
                }
                Sees::Chunks => self.input.move_to_place(&mut self.part),
                Sees::Bytes => {
                    let size = r.location().core.output_buffers.1.max(1) as u64;
                    if let Some(chunk) = self.input.pop_in_memory(size)? {
                        self.part.push(chunk);
                    }
                }
            }
        }
        let more = if self.input.is_empty() { self.more } else { More::Later };
        let length = self.part.len();
        let taken = self.filter.filter(r, &mut self.part, output, more)?;
        *work += length.saturating_sub(self.part.len()) * self.filter.weight();
        self.owes = taken != Taken::All;
        self.wait = match taken {
            Taken::Until(wait) => Some(wait),
            Taken::All | Taken::Part => None,
        };
        if self.owes {
            return Ok(More::Later);
        }
        self.part.clear();
        if self.input.is_empty() {
            self.is_ended = self.more == More::End;
            self.more = More::Later;
        }
        Ok(more)
    }
}
