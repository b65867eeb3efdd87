//! The GSSAPI acceptor: proves a client's Kerberos ticket with the service's keytab and nothing else.
//!
//! The only file with FFI: libgssapi has no safe call for a credential from a given keytab.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use libgssapi::context::{SecurityContext, ServerCtx};
use libgssapi::credential::Cred;
use libgssapi::error::{Error, MajorFlags};
use libgssapi_sys::{
    _GSS_C_INDEFINITE, GSS_C_ACCEPT, GSS_S_COMPLETE, gss_OID_desc, gss_acquire_cred_from, gss_buffer_desc,
    gss_cred_id_t, gss_cred_usage_t, gss_import_name, gss_key_value_element_desc, gss_key_value_set_desc,
    gss_name_t, gss_release_name,
};

use crate::config::Kerberos;

/// Why the service's credential cannot be used, or a client's token was refused.
#[derive(Debug, thiserror::Error)]
pub enum GssError {
    /// The keytab's path has a zero byte.
    #[error("the keytab's path holds a zero byte; choose another path")]
    Path,
    /// The keytab has no usable key of the service.
    #[error("no acceptor credential for {spn} in {keytab}: {message}; check it with klist -k")]
    Acquire {
        /// The service principal.
        spn: String,
        /// The keytab.
        keytab: String,
        /// MIT Kerberos' message.
        message: String,
    },
    /// A client's token was not accepted.
    #[error("{0}")]
    Refused(String),
}

/// The service's credential and who its clients are.
pub(crate) struct Acceptor {
    credential: Cred,
    logins: BTreeMap<String, String>,
}

impl Acceptor {
    /// Opens the keytab. Fails if it has no key of the configured principal.
    pub(crate) fn new(kerberos: &Kerberos) -> Result<Self, GssError> {
        let failed = |error: Error| GssError::Acquire {
            spn: kerberos.spn.clone(),
            keytab: kerberos.keytab.display().to_string(),
            message: error.to_string().trim().to_owned(),
        };
        let mut path = b"FILE:".to_vec();
        path.extend(kerberos.keytab.as_os_str().as_bytes());
        let path = CString::new(path).map_err(|_| GssError::Path)?;
        let credential = acquire(&kerberos.spn, &path).map_err(failed)?;
        Ok(Self { credential, logins: kerberos.logins.clone() })
    }

    /// Begins one exchange. MIT's replay cache makes a second one with the same token fail.
    pub(crate) fn begin(&self) -> Exchange {
        Exchange(ServerCtx::new(Some(self.credential.clone())))
    }

    /// The login of an authenticated principal.
    pub(crate) fn login_of(&self, principal: &str) -> Option<&str> {
        self.logins.get(principal).map(String::as_str)
    }
}

/// One client's authentication under way.
pub(crate) struct Exchange(ServerCtx);

/// What follows from a client's token.
pub(crate) struct Step {
    /// For the client, if any.
    pub(crate) answer: Option<Vec<u8>>,
    /// Who it is, once that is proved.
    pub(crate) principal: Option<String>,
}

impl Exchange {
    /// Feeds one token. Blocks on the keytab and the replay cache's files: not for an async thread.
    pub(crate) fn step(&mut self, token: &[u8]) -> Result<Step, GssError> {
        // MIT keeps the text of an error per thread: it is read here, at once.
        let refused = |error: Error| GssError::Refused(error.to_string().trim().to_owned());
        let answer = self.0.step(token, None).map_err(refused)?.map(|buffer| buffer.to_vec());
        let principal = if self.0.is_complete() {
            let name = self.0.source_name().map_err(refused)?;
            Some(name.to_string())
        } else {
            None
        };
        Ok(Step { answer, principal })
    }
}

/// `GSS_KRB5_NT_PRINCIPAL_NAME`, 1.2.840.113554.1.2.2.1.
const PRINCIPAL_NAME: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";

fn acquire(principal: &str, keytab: &CString) -> Result<Cred, Error> {
    let failure = |major, minor| Error { major: MajorFlags::from_bits_retain(major), minor };
    let mut minor = 0;
    let mut text = gss_buffer_desc { length: principal.len(), value: principal.as_ptr().cast_mut().cast() };
    let elements = PRINCIPAL_NAME.as_ptr().cast_mut().cast();
    let mut kind = gss_OID_desc { length: PRINCIPAL_NAME.len() as u32, elements };
    let mut name: gss_name_t = ptr::null_mut();
    // SAFETY: `text` and `kind` describe bytes that outlive the call, which only reads them; `name` receives a
    // handle that nobody else owns.
    let major = unsafe { gss_import_name(&raw mut minor, &raw mut text, &raw mut kind, &raw mut name) };
    if major != GSS_S_COMPLETE {
        return Err(failure(major, minor));
    }
    let mut element = gss_key_value_element_desc { key: c"keytab".as_ptr(), value: keytab.as_ptr() };
    let store = gss_key_value_set_desc { count: 1, elements: &raw mut element };
    let mut credential: gss_cred_id_t = ptr::null_mut();
    // SAFETY: `name` is the live handle from above; `store` and its one element live on this stack frame with
    // NUL-terminated strings that outlive the call; `credential` receives a handle that nobody else owns.
    let major = unsafe {
        gss_acquire_cred_from(
            &raw mut minor,
            name,
            _GSS_C_INDEFINITE,
            ptr::null_mut(), // every mechanism: raw Kerberos and SPNEGO
            GSS_C_ACCEPT as gss_cred_usage_t,
            &raw const store,
            &raw mut credential,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    let mut ignored = 0;
    // SAFETY: `name` is owned here and used by nobody after this.
    unsafe { gss_release_name(&raw mut ignored, &raw mut name) };
    if major == GSS_S_COMPLETE {
        // SAFETY: the handle was just made and is owned by nobody else; `Cred` releases it once.
        Ok(unsafe { Cred::from_c(credential) })
    } else {
        Err(failure(major, minor))
    }
}
