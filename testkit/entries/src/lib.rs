//! Whatever reads bytes from outside, each behind one function that takes any bytes: for fuzzers, and for the test that
//! every build runs.
//!
//! A function panics where the bytes show a fault: pieces that come to something else than the whole, output without
//! bound, a path that leaves its root.

mod certificates;
mod configuration;
mod dice;
mod films;
mod gateways;
mod h1;
mod h2;
mod names;
mod words;

pub use configuration::directives;
pub use dice::Dice;

/// One reader.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name, that of the fuzzer's target too.
    pub name: &'static str,
    /// Reads the bytes.
    pub read: fn(&[u8]),
    /// What means something to it: texts that are strung together get past the first line.
    pub fragments: &'static [&'static [u8]],
}

const fn entry(name: &'static str, read: fn(&[u8]), fragments: &'static [&'static [u8]]) -> Entry {
    Entry { name, read, fragments }
}

/// All of them.
pub const ENTRIES: [Entry; 17] = [
    entry("request_head", h1::request_head, h1::HEADS),
    entry("response_head", h1::response_head, h1::HEADS),
    entry("chunked", h1::chunked, h1::CHUNKS),
    entry("http2", h2::frames, h2::FRAMES),
    entry("hpack", h2::hpack, h2::BLOCKS),
    entry("huffman", h2::huffman, h2::BLOCKS),
    entry("fastcgi", gateways::fastcgi_records, gateways::RECORDS),
    entry("cgi", gateways::cgi_head, gateways::CGI),
    entry("memcached", gateways::memcached, gateways::CACHED),
    entry("proxy_protocol", words::proxy_protocol, words::WORDS),
    entry("client_hello", words::client_hello, words::HELLOS),
    entry("uri", words::uri, words::WORDS),
    entry("fields", words::fields, words::WORDS),
    entry("dns", names::dns, names::MESSAGES),
    entry("ocsp", certificates::ocsp, certificates::ANSWERS),
    entry("mp4", films::film, films::ATOMS),
    entry("configuration", configuration::configuration, configuration::LINES),
];

/// Reads bytes at the entry of that name; for the targets of `fuzz/`.
///
/// # Panics
/// There is none of that name, or the bytes show a fault.
pub fn read(name: &str, bytes: &[u8]) {
    match ENTRIES.iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.read)(bytes),
        None => panic!("no entry {name}"),
    }
}
