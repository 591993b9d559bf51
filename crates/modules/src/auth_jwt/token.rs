//! A JSON Web Token with its signature (RFC 7519, RFC 7515): three parts with dots between them.

use http::credentials::decode_base64url;
use http::output::push_decimal;
use serde_json::Value;

use super::keys::Keys;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenFault {
    #[error("the token is malformed")]
    Format,
    #[error("no key fits the token's signature")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
}

/// A token whose signature and times are right.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) header: Value,
    pub(super) claims: Value,
    /// The claims as they were written.
    pub(super) payload: Vec<u8>,
}

impl Token {
    /// Reads a token and checks it; `now` is unix seconds, `leeway` the seconds by which clocks may differ.
    pub(super) fn check(text: &[u8], keys: &[&Keys], now: i64, leeway: i64) -> Result<Self, TokenFault> {
        let dot = memchr::memrchr(b'.', text).ok_or(TokenFault::Format)?;
        let (message, signature) = (&text[..dot], &text[dot + 1..]);
        let middle = memchr::memchr(b'.', message).ok_or(TokenFault::Format)?;
        let decode = |part: &[u8]| decode_base64url(part).ok_or(TokenFault::Format);
        let header = object(&decode(&message[..middle])?)?;
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenFault::Format)?;
        // Extensions that must be understood are not (RFC 7515, 4.1.11).
        if header.get("crit").is_some() {
            return Err(TokenFault::Format);
        }
        let id = header.get("kid").and_then(Value::as_str);
        let signature = decode(signature)?;
        if !keys.iter().any(|keys| keys.verify(algorithm, id, message, &signature)) {
            return Err(TokenFault::Signature);
        }
        let payload = decode(&message[middle + 1..])?;
        let claims = object(&payload)?;
        check_times(&claims, now, leeway)?;
        Ok(Self { header, claims, payload })
    }
}

fn object(text: &[u8]) -> Result<Value, TokenFault> {
    let value: Value = serde_json::from_slice(text).map_err(|_| TokenFault::Format)?;
    if value.is_object() { Ok(value) } else { Err(TokenFault::Format) }
}

fn check_times(claims: &Value, now: i64, leeway: i64) -> Result<(), TokenFault> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(time) => time.as_f64().map(Some).ok_or(TokenFault::Format),
    };
    // Seconds since 1970 lie far below what a float holds exactly.
    let (now, leeway) = (now as f64, leeway as f64);
    if time("exp")?.is_some_and(|expires| now >= expires + leeway) {
        return Err(TokenFault::Expired);
    }
    if time("nbf")?.is_some_and(|begins| now < begins - leeway) {
        return Err(TokenFault::Early);
    }
    Ok(())
}

/// Appends a value as variables show it: texts without quotes, lists with commas. Says whether there is one.
pub(super) fn push_value(value: Option<&Value>, out: &mut Vec<u8>) -> bool {
    match value {
        None | Some(Value::Null) => return false,
        Some(Value::String(text)) => out.extend_from_slice(text.as_bytes()),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(number) => push_decimal(number, out),
            None => out.extend_from_slice(number.to_string().as_bytes()),
        },
        Some(Value::Array(list)) => {
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_value(Some(value), out);
            }
        }
        Some(other) => out.extend_from_slice(other.to_string().as_bytes()),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token of RFC 7515, A.1, and its key.
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const KEY: &str = r#"{"keys":[{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
    const EXPIRES: i64 = 1_300_819_380;

    fn check(token: &str, key: &str, now: i64, leeway: i64) -> Result<Token, TokenFault> {
        let keys = Keys::read(key.as_bytes()).expect("keys");
        Token::check(token.as_bytes(), &[&keys], now, leeway)
    }

    #[test]
    fn hmac() {
        let token = check(TOKEN, KEY, EXPIRES - 1, 0).expect("token");
        let mut out = Vec::new();
        assert!(push_value(token.claims.get("iss"), &mut out) && out == b"joe");
        assert_eq!(token.header.get("typ").and_then(Value::as_str), Some("JWT"));
        let refused = |token: &str, key: &str, now, leeway| check(token, key, now, leeway).map(drop);
        assert_eq!(refused(TOKEN, KEY, EXPIRES, 0), Err(TokenFault::Expired));
        assert_eq!(refused(TOKEN, KEY, EXPIRES, 1), Ok(()));
        assert_eq!(refused(&TOKEN.replace("dBjf", "dBjg"), KEY, 0, 0), Err(TokenFault::Signature));
        assert_eq!(refused(&TOKEN.replace(".eyJp", ".eyJq"), KEY, 0, 0), Err(TokenFault::Signature));
        assert_eq!(refused("a.b", KEY, 0, 0), Err(TokenFault::Format));
        assert_eq!(refused("", KEY, 0, 0), Err(TokenFault::Format));
        assert_eq!(refused("..", KEY, 0, 0), Err(TokenFault::Format));
        // {"alg":"none"} with an empty signature.
        assert_eq!(refused("eyJhbGciOiJub25lIn0.e30.", KEY, 0, 0), Err(TokenFault::Signature));
        let other = KEY.replace("\"kty\":\"oct\"", "\"kty\":\"oct\",\"alg\":\"HS512\"");
        assert_eq!(refused(TOKEN, &other, 0, 0), Err(TokenFault::Signature));
        let encryption = KEY.replace("\"kty\":\"oct\"", "\"kty\":\"oct\",\"use\":\"enc\"");
        assert_eq!(refused(TOKEN, &encryption, 0, 0), Err(TokenFault::Signature));
    }

    #[test]
    fn elliptic_curves() {
        // RFC 7515, A.3.
        let token = "eyJhbGciOiJFUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
            DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let key = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
        assert!(check(token, key, 0, 0).is_ok());
        assert_eq!(check(token, KEY, 0, 0).map(drop), Err(TokenFault::Signature));
        // RFC 8037, A.4: the payload is no JSON, so only the signature can be right.
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
            hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let key =
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        assert_eq!(check(token, key, 0, 0).map(drop), Err(TokenFault::Format));
        assert_eq!(check(&token.replace("hgyY", "hgyZ"), key, 0, 0).map(drop), Err(TokenFault::Signature));
    }

    #[test]
    fn values() {
        let check = |json: &str, expected: Option<&str>| {
            let mut out = Vec::new();
            let value: Value = serde_json::from_str(json).expect("json");
            let found = push_value(Some(&value), &mut out);
            assert_eq!(
                found.then(|| String::from_utf8_lossy(&out).into_owned()).as_deref(),
                expected,
                "{json}"
            );
        };
        check("\"a\\\"b\"", Some("a\"b"));
        check("12", Some("12"));
        check("-1.5", Some("-1.5"));
        check("true", Some("true"));
        check("[\"a\",2,[\"b\"]]", Some("a,2,b"));
        check("{\"a\":1}", Some("{\"a\":1}"));
        check("null", None);
    }

    #[test]
    fn what_is_no_key_set() {
        let fault = |text: &str| Keys::read(text.as_bytes()).map(drop).map_err(|fault| fault.to_string());
        assert!(fault("").is_err() && fault("[]").is_err() && fault("{\"keys\":1}").is_err());
        assert!(fault("{\"keys\":[{\"kty\":\"oct\"}]}").is_err());
        assert!(fault("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}").is_err());
        assert_eq!(fault("{\"keys\":[{\"kty\":\"new\"}]}"), Ok(()));
    }
}
