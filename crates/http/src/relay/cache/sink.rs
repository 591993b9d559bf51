//! Where an answer goes besides the client while it passes: into the cache, or into a file.
//!
//! With a sink the upstream is read at its own speed, whoever is slow or gone: what the client has no time for is
//! read back from the file later.

use std::fs::File;
use std::io;
use std::sync::Arc;

use ::cache::{Draft, Follow, TempDir, Writer};
use os::errlog::{Errno, Level};

use super::save::Saved;
use super::{CacheSettings, Case, Store, Use, now, now_s, tags, trailers, vary};
use crate::chunk::{Chunk, Queue};
use crate::relay::RelaySettings;
use crate::relay::codec::{BodyLength, Closing};
use crate::request::Request;
use crate::temp_file;

enum Target {
    Cache(Box<Writer>),
    File(Saved),
}

/// What takes the body.
pub(in crate::relay) struct Sink {
    target: Target,
    /// Nobody wants the body but the sink.
    pub is_mute: bool,
}

/// What shows where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) struct Ending {
    /// What the head says of it.
    pub length: BodyLength,
    /// What it means that the connection closes.
    pub closing: Closing,
}

impl Sink {
    /// A sink for an answer whose head was passed on, where it is to be kept (`ngx_http_upstream_send_response`).
    /// `ending` is missing where it is not buffered, and so not kept.
    pub fn begin(r: &mut Request, settings: &RelaySettings, ending: Option<Ending>) -> Option<Box<Self>> {
        let target = match r.cache.take() {
            Some(mut case) => {
                let writer = ending.and_then(|ending| begin_entry(r, settings, &mut case, ending));
                if writer.is_none() {
                    case.pass();
                }
                r.cache = Some(case);
                Target::Cache(Box::new(writer?))
            }
            None if settings.cache.store == Store::Off || ending.is_none() => return None,
            None => match Saved::begin(settings) {
                Ok(saved) => Target::File(saved),
                Err(error) => {
                    r.log(Level::Crit, format_args!("creating a temporary file failed {}", Errno(&error)));
                    return None;
                }
            },
        };
        Some(Box::new(Self { target, is_mute: r.response.header_only || r.is_detached() }))
    }

    /// Takes a part of the body. What is left of it in `part` is for the client, who has `waiting` bytes in memory
    /// of the `most` that he may have.
    pub fn take(&mut self, r: &Request, part: &mut Queue, waiting: u64, most: u64) {
        let start = self.length();
        for chunk in part.iter() {
            let Some(bytes) = chunk.bytes() else { continue };
            let written = match &mut self.target {
                Target::Cache(writer) => writer.write(bytes),
                Target::File(saved) => saved.write(bytes),
            };
            self.tell(r, written);
        }
        if self.is_mute {
            part.clear();
            return;
        }
        if waiting + part.in_memory() <= most {
            return;
        }
        self.flush(r);
        let end = self.length();
        if let Some((file, body)) = self.file() {
            let chunk = Chunk::File { file: Arc::clone(file), offset: body + start, end: body + end };
            part.clear();
            part.push(chunk);
        }
    }

    fn length(&self) -> u64 {
        match &self.target {
            Target::Cache(writer) => writer.length(),
            Target::File(saved) => saved.length(),
        }
    }

    fn file(&self) -> Option<(&Arc<File>, u64)> {
        match &self.target {
            Target::Cache(writer) => writer.file(),
            Target::File(saved) => saved.file(),
        }
    }

    /// Nothing more comes for now.
    pub fn flush(&mut self, r: &Request) {
        if let Target::Cache(writer) = &mut self.target {
            let written = writer.flush();
            self.tell(r, written);
        }
    }

    /// Whether everything so far lies on the disk, or will: then memory is not what holds the upstream back.
    pub fn is_sound(&self) -> bool {
        match &self.target {
            Target::Cache(writer) => writer.is_sound(),
            Target::File(saved) => saved.is_sound(),
        }
    }

    /// Failing disks cost the entry, not the answer; told once a minute.
    fn tell(&self, r: &Request, written: io::Result<()>) {
        let Err(error) = written else { return };
        let is_news = match &self.target {
            Target::Cache(_) => r.cache.as_ref().is_some_and(|case| case.zone.may_tell(now_s())),
            Target::File(_) => true,
        };
        if is_news {
            r.log(
                Level::Crit,
                format_args!("writing to the cache failed {} while reading upstream", Errno(&error)),
            );
        }
    }

    /// The body is complete.
    pub fn commit(self, r: &Request, settings: &RelaySettings) {
        match self.target {
            Target::Cache(mut writer) => {
                let Some(case) = r.cache.as_ref().filter(|_| !has_failed_call(r)) else { return };
                if settings.pass_trailers
                    && let Err(error) = writer.write(&trailers::encode(&r.upstream_head))
                {
                    // Nothing is stored then.
                    r.debug(format_args!("http cache trailers were not written {}", Errno(&error)));
                }
                match writer.commit(now_s()) {
                    Ok(Some(bytes)) => case.zone.counters().stored(case.status, bytes),
                    Ok(None) => {}
                    Err(error) if case.zone.may_tell(now_s()) => r.log(
                        Level::Crit,
                        format_args!("writing to the cache failed {} while reading upstream", Errno(&error)),
                    ),
                    Err(_) => {}
                }
            }
            Target::File(saved) => saved.commit(r, settings),
        }
    }
}

/// Whether a call of gRPC did not succeed, which its status does not show.
fn has_failed_call(r: &Request) -> bool {
    let head = &r.upstream_head;
    let fields = head.head.fields.iter().map(|field| (field.name.of(&head.text), field.value.of(&head.text)));
    let trailers = head.trailers.iter().map(|(name, value)| (&name[..], &value[..]));
    fields.chain(trailers).any(|(name, value)| name.eq_ignore_ascii_case(b"grpc-status") && value != b"0")
}

/// Begins an entry, unless the answer is not to be kept after all.
fn begin_entry(r: &Request, settings: &RelaySettings, case: &mut Case, ending: Ending) -> Option<Writer> {
    if case.answer != Use::Kept || CacheSettings::any_holds(&settings.cache.no_cache, r) {
        return None;
    }
    if case.meta.valid_until == 0 {
        case.meta.valid_until = settings.cache.valid_until(r.upstream_head.head.status, now())?;
    }
    let head = head_text(r, settings)?;
    let Some(tags) = tags::of(&settings.cache.tags, r) else {
        r.log(Level::Warn, format_args!("the answer has too many cache tags to be kept"));
        return None;
    };
    case.meta.tags = tags;
    let ticket = case.ticket.take()?;
    // Without a predecessor nothing is known of variants before it: one that lies there may have been purged.
    (case.meta.gone, case.meta.stale) = match &case.stale {
        Some(stored) => (stored.meta().gone, stored.meta().stale),
        None => (ticket.epoch(), 0),
    };
    // What is there was seen to be too old; the new one takes its place.
    case.stale = None;
    if !case.meta.vary.is_empty() {
        case.meta.variant = vary::variant(r, &case.main, &case.meta.vary);
    }
    if case.is_variant && (case.meta.vary.is_empty() || case.meta.variant != case.key) {
        // The answer varies by other fields than the one before: it becomes the main entry.
        case.key = case.main;
        case.is_variant = false;
        case.meta.gone = ticket.epoch();
        case.lease = None;
    }
    let follow = match (ending.length, ending.closing) {
        // Who reads along could not tell the trailers from the body.
        _ if settings.pass_trailers => Follow::Refused,
        (BodyLength::Open, Closing::Complete) => Follow::Refused,
        _ => Follow::Allowed,
    };
    let temp_path = settings.temp_path.clone();
    let draft =
        Draft { key: case.key, main: case.main, text: case.text.clone(), meta: case.meta.clone(), head };
    let has_temp_path = !temp_path.path.as_os_str().is_empty();
    let temp_dir = has_temp_path.then(|| -> TempDir { Box::new(move || temp_file::create(&temp_path)) });
    Some(Writer::begin(&case.zone, draft, ticket, case.lease.take(), follow, temp_dir))
}

/// The upstream's head in the form of HTTP/1, whatever it came in. `None` for what has none (HTTP/0.9).
fn head_text(r: &Request, settings: &RelaySettings) -> Option<Vec<u8>> {
    let head = &r.upstream_head;
    if head.head.version == proto::h1::Version::HTTP_09 {
        return None;
    }
    let mut out = Vec::with_capacity(head.text.len() + 32);
    if settings.pass_trailers {
        out.push(trailers::MARK);
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    let line = head.head.status_line.of(&head.text);
    if line.is_empty() {
        out.extend_from_slice(head.head.status.to_string().as_bytes());
        out.push(b' ');
    } else {
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\r\n");
    for field in &head.head.fields {
        out.extend_from_slice(field.name.of(&head.text));
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value.of(&head.text));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Some(out)
}
