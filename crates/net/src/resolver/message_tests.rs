//! Messages good and bad.
//!
//! Whatever arrives, reading ends, and with an error rather than a panic.

use super::*;
use crate::resolver::packet::{Packet, wire};

const ID: u16 = 0x1234;

fn question(record_type: RecordType) -> Question {
    Question::new("www.example.com", record_type).expect("a name")
}

fn packet(record_type: RecordType) -> Packet {
    Packet::new(ID, "www.example.com", record_type.number())
}

fn told(message: &[u8], record_type: RecordType) -> String {
    match read(message, Transport::Udp, &question(record_type)) {
        Ok(Reply::Truncated) => "truncated".into(),
        Ok(Reply::Empty(keep_sec)) => format!("empty {keep_sec}"),
        Ok(Reply::Failed(error, keep_sec)) => format!("{error} {keep_sec}"),
        Ok(Reply::Records(records)) => {
            let mut parts: Vec<String> = records.addresses.iter().map(ToString::to_string).collect();
            parts.extend(
                records
                    .services
                    .iter()
                    .map(|s| format!("{}:{} {} {}", s.target, s.port, s.priority, s.weight)),
            );
            parts.extend(records.pointer.map(|name| format!("ptr {name}")));
            parts.extend(records.cname.map(|name| format!("cname {name}")));
            format!("{} ttl {}", parts.join(", "), records.ttl)
        }
        Err(fault) => fault.to_string(),
    }
}

#[test]
fn queries() {
    let expected = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x1c\0\x01";
    assert_eq!(question(RecordType::Aaaa).query(ID), expected);
    let check =
        |name: &str, good: bool| assert_eq!(Question::new(name, RecordType::A).is_some(), good, "{name}");
    check("a", true);
    check("_http._tcp.example.com", true);
    check(&"a".repeat(63), true);
    check(&"a".repeat(64), false);
    check(&["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)].join("."), true);
    check(&["a"; 129].join("."), false);
    check("", false);
    check("a..b", false);
    check(".a", false);
    check("a.", false);
    check("a b", false);
    check("a\0b", false);
}

#[test]
fn answers() {
    use RecordType::{A, Aaaa, Ptr, Srv};
    let check = |asked, packet: Packet, expected: &str| assert_eq!(told(&packet.bytes(), asked), expected);
    check(A, packet(A).addr(60, "192.0.2.1").addr(30, "192.0.2.2"), "192.0.2.1, 192.0.2.2 ttl 30");
    check(Aaaa, packet(Aaaa).addr(60, "2001:db8::1"), "2001:db8::1 ttl 60");
    check(A, packet(A).cname(5, "a.example").addr(60, "192.0.2.1"), "192.0.2.1 ttl 5");
    check(A, packet(A).cname(5, "A.Example"), "cname a.example ttl 5");
    check(A, packet(A).cname(5, "a.example").cname(6, "b.example"), "cname b.example ttl 5");
    check(A, packet(A).record(39, 7, &wire("x")).cname(9, "y"), "cname y ttl 7");
    check(A, packet(A).record(16, 7, b"\x01x"), " ttl 7");
    check(A, packet(A).addr(0x8000_0000, "192.0.2.1"), "192.0.2.1 ttl 0");
    check(Srv, packet(Srv).srv(1, 0, 80, "A.example"), "a.example:80 1 1 ttl 60");
    check(Srv, packet(Srv).cname(1, "s.example"), "cname s.example ttl 1");
    check(Ptr, packet(Ptr).record(12, 9, &wire("One")).record(12, 9, &wire("two")), "ptr one ttl 9");
    check(A, packet(A), "empty 0");
    check(A, packet(A).soa(60, 20), "empty 20");
    check(A, packet(A).flags(3).soa(10, 20), "Host not found 10");
    check(A, packet(A).flags(3).cname(1, "x").soa(10, 20), "Host not found 10");
    check(A, packet(A).flags(2), "Server failure 0");
    check(A, packet(A).flags(5), "Operation refused 0");
    check(A, packet(A).flags(0x200), "truncated");
}

#[test]
fn what_is_no_answer() {
    use RecordType::{A, Aaaa, Srv};
    let check = |asked, packet: Packet, expected: &str| assert_eq!(told(&packet.bytes(), asked), expected);
    check(A, packet(A).flags(1), "DNS error (1: Format error), query id:4660, name:\"www.example.com\"");
    check(A, packet(A).flags(6), "DNS error (6: Unknown error), query id:4660, name:\"www.example.com\"");
    check(A, packet(A).flags(0x0800), "invalid UDP DNS response 4660 fl:8980");
    check(A, packet(Aaaa), "unexpected DNS response for www.example.com");
    check(A, Packet::new(ID, "www.example.net", 1), "unexpected DNS response for www.example.net");
    check(A, packet(A).addr(1, "::1"), "unexpected AAAA record in DNS response");
    check(Aaaa, packet(Aaaa).addr(1, "127.0.0.1"), "unexpected A record in DNS response");
    check(A, packet(A).record(1, 1, &[]), "invalid A record in DNS response");
    check(Aaaa, packet(Aaaa).record(28, 1, &[0; 15]), "invalid AAAA record in DNS response");
    check(Srv, packet(Srv).record(33, 1, &[0; 5]), "short DNS response");
    check(Srv, packet(Srv).record(33, 1, &[0, 0, 0, 0, 0, 0, 0xff, 0xff]), "name is out of DNS response");
    check(A, packet(A).record(5, 1, &[0xc0, 33 + 12]), "compression pointers loop in DNS response");
    check(A, packet(A).record(5, 1, &[0x40, 0]), "invalid label type in DNS response");
    check(A, packet(A).record(5, 1, b"\x03a.b\0"), "invalid name in DNS response");
    check(A, packet(A).record(5, 1, b"\x03a\0b\0"), "invalid name in DNS response");
    check(A, packet(A).record(5, 1, b"\x02\xff\xfe\0"), "invalid name in DNS response");
    check(A, packet(A).cname(1, &format!("{}.", "a".repeat(60)).repeat(5)), "invalid name in DNS response");
    let with_byte = |at: usize, byte: u8| {
        let mut bytes = packet(A).addr(1, "127.0.0.1").bytes();
        bytes[at] = byte;
        told(&bytes, A)
    };
    assert_eq!(with_byte(2, 0x01), "invalid UDP DNS response 4660 fl:0180");
    assert_eq!(with_byte(5, 2), "invalid number of questions in DNS response");
    assert_eq!(with_byte(5, 0), "invalid number of questions in DNS response");
    assert_eq!(with_byte(7, 2), "short DNS response");
    assert_eq!(with_byte(12, 0xc0), "unexpected DNS response for ");
    assert_eq!(with_byte(38, 3), "unexpected RR class 3 in DNS response");
    let tcp = read(&packet(A).flags(0x200).bytes(), Transport::Tcp, &question(A));
    assert_eq!(tcp.map_err(|f| f.to_string()), Err("invalid TCP DNS response 4660 fl:8380".into()));
}

#[test]
fn letters_of_the_question_may_be_of_any_case() {
    let message = Packet::new(ID, "WWW.Example.com", 1).addr(1, "127.0.0.1").bytes();
    assert_eq!(told(&message, RecordType::A), "127.0.0.1 ttl 1");
}

#[test]
fn every_prefix_and_every_changed_byte_is_read_to_an_end() {
    let whole = packet(RecordType::Srv).srv(1, 1, 1, "a.b").cname(1, "c").soa(1, 1).bytes();
    let question = question(RecordType::Srv);
    for length in 0..whole.len() {
        assert!(read(&whole[..length], Transport::Udp, &question).is_err() || length > whole.len() - 40);
    }
    for at in 0..whole.len() {
        for byte in 0..=255 {
            let mut changed = whole.clone();
            changed[at] = byte;
            let _ = read(&changed, Transport::Udp, &question);
            let _ = asked_name(&changed);
        }
    }
}

#[test]
fn records_are_bounded() {
    let full = (0..2 * MAX_RECORDS).fold(packet(RecordType::A), |packet, _| packet.addr(1, "127.0.0.1"));
    let Ok(Reply::Records(records)) = read(&full.bytes(), Transport::Tcp, &question(RecordType::A)) else {
        panic!("no records");
    };
    assert_eq!(records.addresses.len(), MAX_RECORDS);
}
