//! Numbers as they stand in answers.

/// Appends a number in decimal.
pub fn push_decimal(number: u64, out: &mut Vec<u8>) {
    // Most are short: statuses, lengths, ports.
    match number {
        0..=9 => out.extend_from_slice(&digits::<1>(number)),
        10..=99 => out.extend_from_slice(&digits::<2>(number)),
        100..=999 => out.extend_from_slice(&digits::<3>(number)),
        1000..=9999 => out.extend_from_slice(&digits::<4>(number)),
        10_000..=99_999 => out.extend_from_slice(&digits::<5>(number)),
        _ => push_long(number, out),
    }
}

/// The last digits of a number below 2^32.
#[inline]
fn digits<const N: usize>(number: u64) -> [u8; N] {
    let mut rest = number as u32;
    let mut text = [0; N];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    text
}

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
        check(u64::MAX, "18446744073709551615", "ffffffffffffffff\r\n");
    }
}
