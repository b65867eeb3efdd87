//! The form of the error catalogues: one entry for each way in which a command or a call can end badly.
//!
//! A code is never given to another meaning; one that is no longer used stays free.

/// One way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The code: `L` loader, `B` broker, `C` brokerctl, and a number whose first digit is the area.
    pub code: &'static str,
    /// The exit code of a command that ends with it; 0 when it only answers a call.
    pub exit: u8,
    /// What happened.
    pub what: &'static str,
    /// Where: what the message names.
    pub place: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Declares entries as constants and as the list `CATALOGUE`, in the order in which they stand.
#[macro_export]
macro_rules! catalogue {
    ($($name:ident = $code:literal, $exit:literal, $what:literal, $place:literal, $remedy:literal;)+) => {
        $(
            #[doc = $what]
            pub const $name: $crate::catalogue::Entry = $crate::catalogue::Entry {
                code: $code,
                exit: $exit,
                what: $what,
                place: $place,
                remedy: $remedy,
            };
        )+
        /// Every entry, in the order of the codes.
        pub const CATALOGUE: &[$crate::catalogue::Entry] = &[$($name),+];
    };
}
