//! Messages of name servers.
//!
//! The name asked for is the one of the fragments, so that whole messages are among what is read.

pub(crate) const MESSAGES: &[&[u8]] = &[
    b"\0\x01\x81\x80\0\x01\0\x01\0\0\0\0",
    b"\0\x01\x81\x80\0\x01\0\x02\0\x01\0\0",
    b"\x01a\x07example\0",
    b"\0\x01\0\x01",
    b"\0\x1c\0\x01",
    b"\0\x21\0\x01",
    b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x7f\0\0\x01",
    b"\xc0\x0c\0\x05\0\x01\0\0\0\x05\0\x02\xc0\x0c",
    b"\xc0\x0c\0\x21\0\x01\0\0\0\x05\0\x09\0\x01\0\x02\0\x50\x01b\0",
    b"\xc0\x0c\0\x1c\0\x01\0\0\0\x05\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01",
    b"\xc0\x0c\0\x06\0\x01\0\0\0\x05\0\x16\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05",
    b"\xc0\xff",
    b"\xff",
    b"\0",
];

pub(crate) fn dns(text: &[u8]) {
    let records = net::resolver::read_message("a.example", text);
    assert!(records <= text.len(), "{records} records in {} bytes", text.len());
    // Fragments come in any order; a head and a question before them make many of them answers.
    let whole: Vec<u8> = MESSAGES
        .iter()
        .take(1)
        .chain(MESSAGES.iter().skip(2).take(2))
        .copied()
        .flatten()
        .chain(text)
        .copied()
        .collect();
    let records = net::resolver::read_message("a.example", &whole);
    assert!(records <= whole.len());
}
