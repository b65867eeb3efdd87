//! What Kerberos says when it says no, and what to do about it.

use libgssapi::error::Error;

use super::super::error::{ErrorClass, UpstreamError, UpstreamName};

/// What the library said, as text, with Kerberos' own error number.
#[derive(Debug)]
pub(in crate::upstream) struct Failure {
    pub(super) text: String,
    /// Offset from the start of the Kerberos error table: 6 is "client not found", 24 "preauthentication failed".
    pub(super) number: Option<u32>,
}

/// Where `com_err` puts the Kerberos library's own errors.
const TABLE: i32 = -1_765_328_384;

/// The longest text that the library has of its own is not half of this.
const LONGEST_TEXT: usize = 200;

/// The library's own words on one line. What a KDC added in its own words is left out, for it has no end and
/// anybody who answers in a KDC's place could write it.
fn tidy(cause: &str) -> String {
    let own = cause.split("KDC returned error string").next().unwrap_or_default();
    let end = |c: char| c.is_whitespace() || matches!(c, ')' | ':' | ',');
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let text: String = own.trim_end_matches(end).chars().take(LONGEST_TEXT).map(plain).collect();
    if text.is_empty() { "refused without a word".to_owned() } else { text }
}

impl Failure {
    /// Must run on the thread that met the error.
    pub(super) fn of(error: Error) -> Self {
        let text = error.to_string();
        // "Unspecified GSS failure.  Minor code may provide more information (the cause)"
        let cause = text.split_once("more information (").map_or(text.as_str(), |(_, cause)| cause);
        let offset = (error.minor as i32).wrapping_sub(TABLE);
        Self { text: tidy(cause), number: u32::try_from(offset).ok().filter(|n| *n < 256) }
    }

    pub(in crate::upstream) fn own(text: &str) -> Self {
        Self { text: text.to_owned(), number: None }
    }

    /// True when another key of the same account may fare better.
    pub(in crate::upstream) fn is_about_the_key(&self) -> bool {
        self.cause().0 == ErrorClass::Credential
    }

    /// Says what was attempted and what to do about it.
    pub(in crate::upstream) fn explain(self, attempted: String) -> UpstreamError {
        let (class, advice) = self.cause();
        let error = UpstreamError::new(UpstreamName::Kerberos, class, attempted, self.text, advice);
        match self.number {
            Some(number) => error.with_code(format!("KRB5 {number}")),
            None => error,
        }
    }

    fn cause(&self) -> (ErrorClass, &'static str) {
        match self.number {
            Some(6) => (
                ErrorClass::NotFound,
                "the KDC does not know the broker's principal: correct it in Vault, or make the account",
            ),
            Some(7) => (
                ErrorClass::NotFound,
                "the KDC does not know the service: register it (`setspn -S SPN ACCOUNT`) or correct the grant's `spn`",
            ),
            Some(1 | 12 | 18 | 23) => (
                ErrorClass::Denied,
                "the account is disabled, locked or lapsed, or its password must be changed: see to it in the directory",
            ),
            Some(24 | 31 | 181 | 209 | 210 | 230) => (
                ErrorClass::Credential,
                "the keytab is not the account's: after a change of password export it anew and write it to Vault",
            ),
            Some(14 | 152 | 237) => (
                ErrorClass::Credential,
                "KDC and broker share no cipher: the broker offers AES only, so set msDS-SupportedEncryptionTypes to 24",
            ),
            Some(37 | 148) => (ErrorClass::Clock, "set the clock: broker and KDC may differ by 5 minutes"),
            Some(29 | 156) => (
                ErrorClass::Unreachable,
                "check the realm's `kdc` in the Kerberos profile, and port 88 between",
            ),
            Some(154 | 220) => (
                ErrorClass::Configuration,
                "name the realm's KDC in the Kerberos profile (`kerberos.krb5_conf`)",
            ),
            Some(32 | 141) => (ErrorClass::Expired, "the ticket has ended: see why its renewal failed"),
            Some(33 | 34 | 41) => {
                (ErrorClass::Denied, "the server's answer is not for this exchange: begin a new one")
            }
            _ => (ErrorClass::Denied, "look the message up in the KDC's own log at this time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kdc_says_in_its_own_words_is_neither_repeated_nor_without_end() {
        assert_eq!(tidy("Preauthentication failed)"), "Preauthentication failed");
        assert_eq!(tidy("Generic error: KDC returned error string: SENTINEL)"), "Generic error");
        assert_eq!(tidy("a\nb\u{1b}[31mc\u{fc}"), "a?b?[31mc?");
        assert_eq!(tidy(&"x".repeat(60_000)).len(), LONGEST_TEXT);
        assert_eq!(tidy("KDC returned error string: x"), "refused without a word");
    }
}
