//! Kerberos through the system's MIT library: the only file with foreign calls.
//!
//! Everything here blocks; `ticket.rs` calls it on threads that may. The library keeps the text of an error
//! per thread, so an error is turned into text on the thread that met it.
#![allow(unsafe_code)]

mod failure;

use std::{
    ffi::{CString, OsStr, c_char, c_void},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use libgssapi::{
    context::{ClientCtx, CtxFlags, SecurityContext as _},
    credential::Cred,
    error::{Error, MajorFlags},
    name::Name,
    oid::{GSS_MECH_KRB5, GSS_NT_KRB5_PRINCIPAL},
};
use libgssapi_sys::{
    GSS_C_INITIATE, GSS_S_COMPLETE, OM_uint32, gss_OID_desc, gss_OID_set_desc, gss_acquire_cred_from,
    gss_buffer_desc, gss_cred_id_t, gss_cred_usage_t, gss_import_name, gss_key_value_element_desc,
    gss_key_value_set_desc, gss_name_t, gss_release_name,
};

pub(super) use self::failure::Failure;
use super::error::{ErrorClass, UpstreamError, UpstreamName};

const PROFILE_VARIABLE: &str = "KRB5_CONFIG";
const PROFILE_FILE: &str = "krb5.conf";

/// Comes before the operator's own profile, and the first mention of a setting counts: no ticket that could
/// be forwarded, no name taken from DNS, no cipher but AES.
const PROFILE: &str = "\
# Written by the broker at its start. It is read before the profile that the configuration names.
[libdefaults]
    forwardable = false
    proxiable = false
    rdns = false
    dns_canonicalize_hostname = false
    allow_weak_crypto = false
    permitted_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128
    default_tkt_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128
    default_tgs_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128
";

#[link(name = "krb5")]
unsafe extern "C" {
    fn krb5_init_context(context: *mut *mut c_void) -> i32;
    fn krb5_free_context(context: *mut c_void);
    fn krb5_cc_resolve(context: *mut c_void, name: *const c_char, cache: *mut *mut c_void) -> i32;
    fn krb5_cc_destroy(context: *mut c_void, cache: *mut c_void) -> i32;
}

/// Tells the Kerberos library which profile to read. Must run before the program has a second thread.
///
/// The library takes its profile from the environment only, and an environment may be changed only while
/// nobody else can read it. A variable that already has the wanted value is left alone.
pub(super) fn set_profile(folder: &Path, profile: &Path) -> Result<(), UpstreamError> {
    let refuse = |found: String, advice: &str| {
        let attempted = format!("preparing the Kerberos profile {}", profile.display());
        UpstreamError::new(UpstreamName::Kerberos, ErrorClass::Configuration, attempted, found, advice)
    };
    fs::metadata(profile).map_err(|e| refuse(e.to_string(), "correct `kerberos.krb5_conf`"))?;
    let own = folder.join(PROFILE_FILE);
    if [folder, profile].iter().any(|p| p.as_os_str().as_bytes().contains(&b':')) {
        return Err(refuse(
            "its path, or `kerberos.tmpfs`, has a colon".to_owned(),
            "choose paths without one",
        ));
    }
    fs::write(&own, PROFILE)
        .map_err(|e| refuse(format!("cannot write {}: {e}", own.display()), "check `kerberos.tmpfs`"))?;
    let wanted = profile_list(&own, profile);
    if std::env::var_os(PROFILE_VARIABLE).as_deref() == Some(wanted.as_os_str()) {
        return Ok(());
    }
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(refuse(
            format!("the program already has {threads} threads"),
            "call `upstream::prepare` first thing in `main`, before the runtime is made",
        ));
    }
    // SAFETY: this is the program's only thread, as was just counted, so nobody else reads or writes the
    // environment now.
    unsafe { std::env::set_var(PROFILE_VARIABLE, wanted) };
    Ok(())
}

fn profile_list(own: &Path, profile: &Path) -> PathBuf {
    let mut list = own.as_os_str().to_owned();
    list.push(OsStr::new(":"));
    list.push(profile);
    list.into()
}

/// A ticket-granting ticket in memory, with the credential handle over it.
///
/// When the last exchange that uses it is gone, the ticket's cache is destroyed: the library overwrites the
/// session keys as it frees them.
pub(super) struct Ticket {
    credential: Option<Cred>,
    cache: CString,
    obtained_at: SystemTime,
    life: Duration,
}

impl Ticket {
    /// Shows the keytab's key to the KDC and takes a ticket into a cache of its own.
    pub(super) fn acquire(principal: &str, keytab: &Path) -> Result<Self, Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let cache = format!("MEMORY:keyferry-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let cache = CString::new(cache).map_err(|_| Failure::own("a cache name with a NUL"))?;
        let keytab = [b"FILE:", keytab.as_os_str().as_bytes()].concat();
        let keytab = CString::new(keytab).map_err(|_| Failure::own("a path with a NUL"))?;
        let obtained_at = SystemTime::now();
        let mut ticket = Self { credential: None, cache, obtained_at, life: Duration::ZERO };
        let credential = acquire_from(principal, &keytab, &ticket.cache)?;
        // Asking for the life is what makes the library look into the cache it has filled.
        ticket.life = credential.lifetime().map_err(Failure::of)?;
        ticket.credential = Some(credential);
        Ok(ticket)
    }

    /// When the ticket ends.
    pub(super) fn expires_at(&self) -> SystemTime {
        self.obtained_at + self.life
    }

    /// How long it lives in all.
    pub(super) fn life(&self) -> Duration {
        self.life
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The handle holds the cache open; it goes first.
        self.credential = None;
        let mut context = ptr::null_mut();
        let mut cache = ptr::null_mut();
        // SAFETY: `context` and `cache` are used only after the call that fills them has returned 0, the
        // name is a C string that outlives the call, `krb5_cc_destroy` consumes the cache, and the context
        // is freed once.
        unsafe {
            if krb5_init_context(&raw mut context) != 0 {
                return;
            }
            if krb5_cc_resolve(context, self.cache.as_ptr(), &raw mut cache) == 0 {
                krb5_cc_destroy(context, cache);
            }
            krb5_free_context(context);
        }
    }
}

fn acquire_from(principal: &str, keytab: &CString, cache: &CString) -> Result<Cred, Failure> {
    let name = RawName::import(principal)?;
    let mut elements = [
        gss_key_value_element_desc { key: c"client_keytab".as_ptr(), value: keytab.as_ptr() },
        gss_key_value_element_desc { key: c"ccache".as_ptr(), value: cache.as_ptr() },
    ];
    let store =
        gss_key_value_set_desc { count: elements.len() as OM_uint32, elements: elements.as_mut_ptr() };
    let mut mechanism = raw_oid(KRB5_MECHANISM);
    let mut mechanisms = gss_OID_set_desc { count: 1, elements: &raw mut mechanism };
    let mut minor = 0;
    let mut credential: gss_cred_id_t = ptr::null_mut();
    // SAFETY: every pointer is to a value on this stack that outlives the call; `store`, its elements and
    // their strings are only read; the out-pointers that are null are documented as optional.
    let major = unsafe {
        gss_acquire_cred_from(
            &raw mut minor,
            name.0,
            OM_uint32::MAX,
            &raw mut mechanisms,
            GSS_C_INITIATE as gss_cred_usage_t,
            &raw const store,
            &raw mut credential,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    if major == GSS_S_COMPLETE {
        // SAFETY: the call has just made this handle, and nobody else has it.
        Ok(unsafe { Cred::from_c(credential) })
    } else {
        Err(Failure::of(Error { major: MajorFlags::from_bits_retain(major), minor }))
    }
}

/// libgssapi's own name type does not give its handle away, and `gss_acquire_cred_from` needs one.
struct RawName(gss_name_t);

impl RawName {
    fn import(principal: &str) -> Result<Self, Failure> {
        let mut text = gss_buffer_desc {
            length: principal.len(),
            value: principal.as_ptr().cast_mut().cast::<c_void>(),
        };
        let mut kind = raw_oid(KRB5_PRINCIPAL);
        let mut minor = 0;
        let mut name: gss_name_t = ptr::null_mut();
        // SAFETY: `text` and `kind` describe memory that outlives the call and are only read; `name` is
        // written before it is used.
        let major = unsafe { gss_import_name(&raw mut minor, &raw mut text, &raw mut kind, &raw mut name) };
        if major == GSS_S_COMPLETE {
            Ok(Self(name))
        } else {
            Err(Failure::of(Error { major: MajorFlags::from_bits_retain(major), minor }))
        }
    }
}

impl Drop for RawName {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle came from `gss_import_name` and is released here only.
        unsafe { gss_release_name(&raw mut minor, &raw mut self.0) };
    }
}

/// The same values as libgssapi's constants, whose bytes cannot be borrowed for ever.
const KRB5_MECHANISM: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
const KRB5_PRINCIPAL: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";

fn raw_oid(bytes: &'static [u8]) -> gss_OID_desc {
    gss_OID_desc { length: bytes.len() as OM_uint32, elements: bytes.as_ptr().cast_mut().cast::<c_void>() }
}

/// One exchange with one service: mutual authentication asked for, delegation never.
pub(super) struct Exchange {
    context: ClientCtx,
    // Held so that the ticket's cache outlives the context.
    _ticket: Arc<Ticket>,
}

/// A token to send, if there is one.
pub(super) struct Step {
    pub(super) token: Vec<u8>,
    pub(super) complete: bool,
    pub(super) mutual: bool,
    /// The service ticket's remaining life; known when the exchange is complete.
    pub(super) remaining: Option<Duration>,
}

impl Exchange {
    /// Prepares an exchange with `service`, a principal name like `MSSQLSvc/host:1433@REALM`.
    pub(super) fn new(ticket: Arc<Ticket>, service: &str) -> Result<Self, Failure> {
        let target = Name::new(service.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL)).map_err(Failure::of)?;
        let flags = CtxFlags::GSS_C_MUTUAL_FLAG
            | CtxFlags::GSS_C_REPLAY_FLAG
            | CtxFlags::GSS_C_SEQUENCE_FLAG
            | CtxFlags::GSS_C_INTEG_FLAG;
        Ok(Self::with_flags(ticket, target, flags))
    }

    fn with_flags(ticket: Arc<Ticket>, target: Name, flags: CtxFlags) -> Self {
        let context = ClientCtx::new(ticket.credential.clone(), target, flags, Some(GSS_MECH_KRB5));
        Self { context, _ticket: ticket }
    }

    /// Takes what the service sent (nothing, at first) and makes what to send next.
    pub(super) fn step(&mut self, received: Option<&[u8]>) -> Result<Step, Failure> {
        let token = self.context.step(received, None).map_err(Failure::of)?;
        let token = token.map(|t| t.to_vec()).unwrap_or_default();
        let complete = self.context.is_complete();
        let mut step = Step { token, complete, mutual: false, remaining: None };
        if complete {
            let flags = self.context.flags().map_err(Failure::of)?;
            step.mutual = flags.contains(CtxFlags::GSS_C_MUTUAL_FLAG);
            step.remaining = self.context.lifetime().ok();
        }
        Ok(step)
    }
}

#[cfg(test)]
mod impostor;
#[cfg(test)]
pub(super) mod realm;
#[cfg(test)]
mod tests;
