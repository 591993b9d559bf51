//! Caches as the API shows them: what lies in a zone, and how requests fared with it.

use http::relay::cache::{Status, Zone};

use super::json::{self, Object};

/// One zone. `entries` and `memory` are ours.
pub(super) fn cache(out: &mut String, zone: &Zone) {
    let options = zone.options();
    json::object(out, |object| {
        object.number("size", zone.disk_bytes());
        if options.max_size < u64::MAX {
            object.number("max_size", options.max_size);
        }
        object.flag("cold", zone.is_cold());
        for (name, status) in [
            ("hit", Status::Hit),
            ("stale", Status::Stale),
            ("updating", Status::Updating),
            ("revalidated", Status::Revalidated),
        ] {
            object.object(name, |object| read(object, zone, status));
        }
        for (name, status) in
            [("miss", Status::Miss), ("expired", Status::Expired), ("bypass", Status::Bypass)]
        {
            object.object(name, |object| {
                read(object, zone, status);
                let count = zone.counters().count(status);
                object.number("responses_written", count.responses_written);
                object.number("bytes_written", count.bytes_written);
            });
        }
        object.number("entries", zone.entries() as u64).number("memory", zone.memory_bytes());
    });
}

fn read(object: &mut Object<'_>, zone: &Zone, status: Status) {
    let count = zone.counters().count(status);
    object.number("responses", count.responses).number("bytes", count.bytes);
}
