//! Numbers as they stand in answers.
//!
//! All digits of a short one are found at once, without a loop and without asking how many there are.

use base::append::push_cut;

/// Appends a number in decimal.
#[inline(never)]
pub fn push_decimal(number: u64, out: &mut Vec<u8>) {
    // Most are short: statuses, lengths, ports. That there is room is asked here, so that nothing below is a call.
    if number >= 100_000_000 || out.capacity() - out.len() < 8 {
        return push_long(number, out);
    }
    let digits = eight_digits(number);
    // The last one stays where all are zeros.
    let zeros = ((digits | 1 << 56).trailing_zeros() / 8) as usize;
    let text = (digits | 0x3030_3030_3030_3030) >> (8 * zeros);
    push_cut(&text.to_le_bytes(), 8 - zeros, out);
}

/// The digits of a number below 10^8, a byte each, the first one lowest. The number is halved three times, each time in all
/// parts of a word at once: quotients stay where they are, remainders move up. That `x * 10486 >> 20` is `x / 100` below
/// 10^4, and `x * 103 >> 10` is `x / 10` below 100, saves the divisions.
#[inline]
fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | (number % 10_000) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (pairs - tens * 10) << 8
}

#[inline(never)]
fn push_long(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The line in front of a chunk: its length in hexadecimal.
pub(super) fn chunk_head(length: u64, buffer: &mut [u8; 20]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut at = 18;
    buffer[18] = b'\r';
    buffer[19] = b'\n';
    let mut rest = length;
    while at == 18 || rest > 0 {
        at -= 1;
        buffer[at] = DIGITS[(rest & 15) as usize];
        rest >>= 4;
    }
    &buffer[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |number, decimal: &str, head: &str| {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(out, decimal.as_bytes());
            assert_eq!(chunk_head(number, &mut [0; 20]), head.as_bytes());
        };
        check(0, "0", "0\r\n");
        check(7, "7", "7\r\n");
        check(10, "10", "a\r\n");
        check(99, "99", "63\r\n");
        check(100, "100", "64\r\n");
        check(255, "255", "ff\r\n");
        check(999, "999", "3e7\r\n");
        check(1000, "1000", "3e8\r\n");
        check(9999, "9999", "270f\r\n");
        check(10_000, "10000", "2710\r\n");
        check(99_999, "99999", "1869f\r\n");
        check(100_000, "100000", "186a0\r\n");
        check(99_999_999, "99999999", "5f5e0ff\r\n");
        check(100_000_000, "100000000", "5f5e100\r\n");
        check(u64::MAX, "18446744073709551615", "ffffffffffffffff\r\n");
    }

    #[test]
    fn digits_are_those_of_the_number() {
        let all_fours = (0..10_000).flat_map(|four| [four, four * 10_000, four * 10_000 + 9999]);
        for number in all_fours {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), number.to_string());
        }
    }
}
