//! The section `sandbox` of both configuration files.

use serde::{Deserialize, Serialize};

/// What the process gives up before it does anything, and what happens where that is not possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `enforce`: a step that fails ends the start. `report`: it is logged as a warning, for a laptop where both programs run as one user. `off`: no step is taken, for a debugger. Default: `enforce`.
    pub mode: Enforcement,
    /// Whether a step that this kernel or container cannot take ends the start too, and `mode` must be `enforce`. Default: `false`.
    pub strict: bool,
}

/// What a failed step means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// It ends the start.
    #[default]
    Enforce,
    /// It is logged.
    Report,
    /// No step is taken.
    Off,
}
