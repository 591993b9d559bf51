//! The place in the chain of filters at which the outputs of subrequests take their places
//! (`ngx_http_postpone_filter_module`).
//!
//! Filters before it act on one request's own output, filters behind it on all that the client gets.

use std::io;

use super::Subrequest;
use super::link::Found;
use crate::chunk::{Chunk, Queue};
use crate::filters::{BodyFilter, ENOUGH, More, Sees, Taken};
use crate::request::Request;

/// Puts outputs in their places.
#[derive(Default)]
pub struct Join;

impl BodyFilter for Join {
    fn sees(&self) -> Sees {
        Sees::Subrequests
    }

    fn filter(
        &mut self,
        _: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        _: More,
    ) -> io::Result<Taken> {
        while let Some(chunk) = input.pop() {
            let Chunk::Subrequest(subrequest) = chunk else {
                output.push(chunk);
                continue;
            };
            match subrequest.read() {
                Found::Some(mut queue) => {
                    // What is behind its output, and whatever else comes of it, goes on behind this.
                    input.push_front(Chunk::Subrequest(subrequest));
                    input.prepend(&mut queue);
                }
                Found::NotYet => {
                    input.push_front(Chunk::Subrequest(subrequest.clone()));
                    return Ok(Taken::Until(Wait::Output(subrequest)));
                }
                Found::End => {}
                Found::Failed => return Err(io::ErrorKind::InvalidData.into()),
            }
            if output.len() >= ENOUGH {
                return Ok(Taken::Part);
            }
        }
        Ok(Taken::All)
    }
}

/// What a filter waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The subrequest's end.
    End(Subrequest),
    /// Some output of it, or its end.
    Output(Subrequest),
}

impl Wait {
    /// Whether it has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::End(subrequest) => subrequest.has_ended(),
            Self::Output(subrequest) => subrequest.has_news(),
        }
    }

    /// Has the task woken when it comes.
    pub fn watch(&self, cx: &mut std::task::Context<'_>) {
        match self {
            Self::End(subrequest) => drop(subrequest.poll_ended(cx)),
            Self::Output(subrequest) => subrequest.watch(cx),
        }
    }
}
