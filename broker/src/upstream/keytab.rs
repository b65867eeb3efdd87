//! The keytab's bytes: checked before Kerberos sees them, and cut down to what is needed of them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    error::{ErrorClass, UpstreamError, UpstreamName},
    secret::Secret,
};

const LARGEST: usize = 64 * 1024;
/// A principal longer than this is no account's.
const LONGEST_NAME: usize = 320;
/// aes128/256-cts-hmac-sha1-96 and their sha2 successors.
const AES: [u16; 4] = [17, 18, 19, 20];

/// Versions of a key that are worth a try: a rotation has two.
const VERSIONS: usize = 2;

/// The AES keys of one principal, and no others: one keytab for each of the newest versions.
///
/// Old and new keys lie together while an account is rotated, and not every KDC has the new one yet. The library
/// takes the newest key that a keytab has, so that each version needs a keytab of its own.
pub(super) struct Keytab {
    principal: String,
    /// Newest first.
    versions: Vec<Version>,
}

/// The keys of one version.
pub(super) struct Version {
    kvno: u32,
    bytes: Zeroizing<Vec<u8>>,
}

impl Keytab {
    /// Reads what Vault holds in base64 and keeps the AES keys of `principal`, which the field `key` holds. A
    /// principal without a realm takes the keytab's. Messages name the field, never what is in it.
    pub(super) fn parse(secret: &Secret, principal: &str, key: &str) -> Result<Self, UpstreamError> {
        let bytes = decode(secret)?;
        let mut versions: Vec<Version> = Vec::new();
        let mut found = None;
        let mut others: Vec<String> = Vec::new();
        let mut weak = 0;
        for entry in Entries::new(&bytes)? {
            let entry = entry?;
            let name = entry.principal;
            if name != principal && name.rsplit_once('@').map(|(n, _)| n) != Some(principal) {
                if !others.contains(&name) && others.len() < 3 {
                    others.push(name);
                }
            } else if AES.contains(&entry.enctype) {
                Version::of(&mut versions, entry.kvno, bytes.len()).bytes.extend_from_slice(entry.record);
                found = Some(name);
            } else {
                weak += 1;
            }
        }
        versions.sort_by_key(|version| std::cmp::Reverse(version.kvno));
        versions.truncate(VERSIONS);
        match found {
            Some(principal) => Ok(Self { principal, versions }),
            None if weak > 0 => Err(refuse(
                format!("it holds {weak} keys of the principal in `{key}`, none of them AES"),
                "set msDS-SupportedEncryptionTypes of the account to 24, change its password and export the \
                 keytab anew",
            )),
            None => Err(refuse(
                format!("it has no key of the principal in `{key}`, only of {}", listed(&others)),
                "write the account's own keytab to Vault, or correct the principal beside it",
            )),
        }
    }

    /// The principal, with its realm.
    pub(super) fn principal(&self) -> &str {
        &self.principal
    }

    /// The versions worth a try, newest first.
    pub(super) fn versions(&self) -> &[Version] {
        &self.versions
    }
}

impl Version {
    /// The keytab file's content.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The keys' version number.
    pub(super) fn kvno(&self) -> u32 {
        self.kvno
    }

    /// The version of this number in a list, made where it is missing. `room` bytes hold it without growing.
    fn of(versions: &mut Vec<Self>, kvno: u32, room: usize) -> &mut Self {
        let at = versions.iter().position(|version| version.kvno == kvno).unwrap_or_else(|| {
            let mut bytes = Zeroizing::new(Vec::with_capacity(room.max(2)));
            bytes.extend_from_slice(&[5, 2]);
            versions.push(Self { kvno, bytes });
            versions.len() - 1
        });
        &mut versions[at]
    }
}

fn decode(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let text = secret.expose();
    if text.len() > LARGEST * 2 {
        return Err(refuse(format!("it has {} characters", text.len()), "write a keytab of one account"));
    }
    // `base64` wraps its output at 76 characters unless told otherwise.
    let mut packed = Zeroizing::new(Vec::with_capacity(text.len()));
    packed.extend(text.bytes().filter(|b| !b.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; packed.len() / 4 * 3 + 3]);
    let length = STANDARD.decode_slice(packed.as_slice(), &mut bytes).map_err(|_| {
        refuse(
            "it is not base64".to_owned(),
            "write it with `base64 -w0 FILE.keytab | vault kv patch ... keytab_base64=-`",
        )
    })?;
    bytes.truncate(length);
    Ok(bytes)
}

fn refuse(found: String, advice: &str) -> UpstreamError {
    UpstreamError::new(
        UpstreamName::Kerberos,
        ErrorClass::Credential,
        "reading the keytab from Vault",
        found,
        advice,
    )
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

/// One key of a keytab.
struct Entry<'a> {
    principal: String,
    enctype: u16,
    kvno: u32,
    /// The whole record, with its length.
    record: &'a [u8],
}

/// The records of a keytab in the format that every implementation writes since 1993 (version 2).
struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, UpstreamError> {
        match bytes {
            [5, 2, rest @ ..] => Ok(Self { rest }),
            [5, 1, ..] => Err(refuse(
                "it is of the old format 1".to_owned(),
                "write it anew with `ktutil`, `ktpass` or `samba-tool`",
            )),
            _ => Err(refuse("it is no keytab".to_owned(), "write the keytab file's own bytes in base64")),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, UpstreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (head, body) = self.rest.split_first_chunk::<4>()?;
            let length = i32::from_be_bytes(*head);
            let size = length.unsigned_abs() as usize;
            if length == 0 {
                return None;
            }
            let Some(record) = body.get(..size) else {
                self.rest = &[];
                return Some(Err(truncated()));
            };
            let whole = &self.rest[..4 + size];
            self.rest = &body[size..];
            // A negative length is the hole that a removed key left.
            if length > 0 {
                return Some(entry(record, whole).ok_or_else(truncated));
            }
        }
    }
}

fn truncated() -> UpstreamError {
    refuse("it is cut off or damaged".to_owned(), "write the whole file to Vault again")
}

fn entry<'a>(record: &'a [u8], whole: &'a [u8]) -> Option<Entry<'a>> {
    let mut at = record;
    let components = u16::from_be_bytes(take(&mut at)?);
    let realm = counted(&mut at)?;
    let mut name = Vec::new();
    for _ in 0..components {
        name.push(String::from_utf8_lossy(counted(&mut at)?).into_owned());
    }
    let principal = format!("{}@{}", name.join("/"), String::from_utf8_lossy(realm));
    if principal.len() > LONGEST_NAME || principal.chars().any(char::is_control) {
        return None;
    }
    let [_type, _written]: [[u8; 4]; 2] = [take(&mut at)?, take(&mut at)?];
    let [short_kvno]: [u8; 1] = take(&mut at)?;
    let enctype = u16::from_be_bytes(take(&mut at)?);
    counted(&mut at)?;
    let kvno = take(&mut at).map(u32::from_be_bytes).filter(|n| *n != 0).unwrap_or(short_kvno.into());
    Some(Entry { principal, enctype, kvno, record: whole })
}

fn take<const N: usize>(at: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = at.split_first_chunk::<N>()?;
    *at = rest;
    Some(*head)
}

fn counted<'a>(at: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_be_bytes(take(at)?) as usize;
    let (head, rest) = at.split_at_checked(length)?;
    *at = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(name: &str, realm: &str, enctype: u16, kvno: u32) -> Vec<u8> {
        let mut record = Vec::new();
        let counted = |out: &mut Vec<u8>, text: &[u8]| {
            out.extend((text.len() as u16).to_be_bytes());
            out.extend(text);
        };
        record.extend((name.split('/').count() as u16).to_be_bytes());
        counted(&mut record, realm.as_bytes());
        for part in name.split('/') {
            counted(&mut record, part.as_bytes());
        }
        record.extend([0, 0, 0, 1, 0, 0, 0, 0, kvno as u8]);
        record.extend(enctype.to_be_bytes());
        counted(&mut record, &[0xAB; 32]);
        record.extend(kvno.to_be_bytes());
        let mut whole = (record.len() as i32).to_be_bytes().to_vec();
        whole.extend(record);
        whole
    }

    fn keytab(records: &[Vec<u8>]) -> Secret {
        let bytes: Vec<u8> = [5, 2].into_iter().chain(records.iter().flatten().copied()).collect();
        Secret::new(STANDARD.encode(bytes)).unwrap()
    }

    #[test]
    fn only_the_aes_keys_of_the_named_principal_are_kept() {
        let wanted = record("svc_loader", "CORP.EXAMPLE", 18, 300);
        let secret = keytab(&[
            record("svc_loader", "CORP.EXAMPLE", 23, 300),
            record("other", "CORP.EXAMPLE", 18, 1),
            wanted.clone(),
        ]);
        for principal in ["svc_loader@CORP.EXAMPLE", "svc_loader"] {
            let keytab = Keytab::parse(&secret, principal, "mssql_spn").ok().unwrap();
            let [version] = keytab.versions() else { panic!("one version") };
            assert_eq!(version.bytes()[2..], wanted);
            assert_eq!((keytab.principal(), version.kvno()), ("svc_loader@CORP.EXAMPLE", 300));
        }
    }

    #[test]
    fn each_version_of_the_key_is_a_keytab_of_its_own_and_the_newest_comes_first() {
        let of = |kvno, enctype| record("svc", "R", enctype, kvno);
        let secret = keytab(&[of(3, 18), of(1, 18), of(4, 17), of(4, 18), of(3, 17)]);
        let keytab = Keytab::parse(&secret, "svc@R", "mssql_spn").ok().unwrap();
        let [newest, older] = keytab.versions() else { panic!("the two newest") };
        assert_eq!((newest.kvno(), older.kvno()), (4, 3));
        assert_eq!(newest.bytes()[2..], [of(4, 17), of(4, 18)].concat());
        assert_eq!(older.bytes()[2..], [of(3, 18), of(3, 17)].concat());
    }

    #[test]
    fn a_keytab_with_rc4_keys_only_is_refused_with_the_directory_setting_that_mends_it() {
        let error = Keytab::parse(&keytab(&[record("svc", "R", 23, 1)]), "svc@R", "mssql_spn").err().unwrap();
        assert!(error.to_string().contains("msDS-SupportedEncryptionTypes"), "{error}");
    }

    #[test]
    fn another_accounts_keytab_is_named() {
        let error =
            Keytab::parse(&keytab(&[record("http/web", "R", 18, 1)]), "svc@R", "mssql_spn").err().unwrap();
        assert!(error.to_string().contains("only of http/web@R"), "{error}");
        assert!(Keytab::parse(&keytab(&[record("svc", "R", 18, 1)]), "svc@OTHER", "mssql_spn").is_err());
    }

    #[test]
    fn holes_and_line_breaks_are_read_over() {
        let mut bytes = vec![5, 2];
        bytes.extend((-6i32).to_be_bytes());
        bytes.extend([0; 6]);
        bytes.extend(record("svc", "R", 17, 2));
        bytes.extend([0, 0, 0, 0]);
        let mut text = STANDARD.encode(bytes);
        text.insert(20, '\n');
        assert!(Keytab::parse(&Secret::new(text).unwrap(), "svc@R", "mssql_spn").is_ok());
    }

    #[test]
    fn what_is_no_keytab_is_refused_with_what_it_is() {
        let cut: Vec<u8> = [vec![5, 2], record("svc", "R", 18, 1)[..30].to_vec()].concat();
        for (text, says) in [
            ("%%%".to_owned(), "not base64"),
            (STANDARD.encode([5, 1, 0, 0]), "old format"),
            (STANDARD.encode(b"PEM"), "no keytab"),
            (STANDARD.encode(&cut), "cut off"),
            (STANDARD.encode([5, 2]), "only of nobody"),
            ("A".repeat(LARGEST * 2 + 1), "characters"),
        ] {
            let error = Keytab::parse(&Secret::new(text).unwrap(), "svc@R", "mssql_spn").err().unwrap();
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut keytab = vec![5, 2];
            keytab.extend(bytes);
            let _ = Keytab::parse(&Secret::new(STANDARD.encode(keytab)).unwrap(), "svc@R", "mssql_spn");
        }
    }
}
