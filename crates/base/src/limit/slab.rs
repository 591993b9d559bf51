//! How much fits into nginx's shared memory, whose allocator gives out powers of two and whole pages.
//!
//! Operators have sized their zones by it, so the same number of entries is to fit here.

const PAGE: u64 = 4096;
/// What the allocator needs for itself, and for each page.
const POOL: u64 = 640;
const PAGE_HEAD: u64 = 24;

/// How many entries of `entry` bytes, key and all, fit into a zone of `size` bytes.
#[must_use]
pub fn entries_of_zone(size: u64, entry: u64) -> u64 {
    capacity(size) / cost(entry)
}

/// Bytes that entries may take in a zone of `size` bytes; one page is the zone's own.
pub(super) fn capacity(size: u64) -> u64 {
    (size.saturating_sub(POOL) / (PAGE + PAGE_HEAD)).saturating_sub(1) * PAGE
}

/// Bytes that an allocation of `size` bytes takes.
pub(super) fn cost(size: u64) -> u64 {
    if size > PAGE / 2 { size.next_multiple_of(PAGE) } else { size.next_power_of_two().max(8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_fit_as_nginx_says() {
        let check = |zone: u64, entry: u64, expected: u64| {
            let count = entries_of_zone(zone, entry);
            let difference = count.abs_diff(expected);
            assert!(difference * 50 < expected, "{count} entries of {entry} bytes in {zone}");
        };
        // ngx_http_limit_req_module: one megabyte keeps about 8 thousand states of 128 bytes.
        check(1 << 20, 84, 8100);
        // ngx_http_limit_conn_module: about 16 thousand states of 64 bytes.
        check(1 << 20, 40, 16200);
        check(1 << 20, 5000, 126);
    }
}
