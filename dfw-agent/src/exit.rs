//! How the process ends: exit codes, and the one message that goes with them.

use std::fmt;

use crate::{config::ConfigError, telemetry::listen::ListenError, telemetry::text};

/// Exit codes; 69, 77 and 78 are EX_UNAVAILABLE, EX_NOPERM and EX_CONFIG of sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Success = 0,
    /// Failed for a reason that has no code of its own.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A check found something, or the question was answered with "denied".
    Findings = 3,
    /// No agent answers.
    Unreachable = 69,
    /// A capability, permission or kernel feature is missing.
    Capability = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Why the process ends without having done its work: what is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code it exits with.
    pub code: ExitCode,
    /// What is wrong and where, one sentence.
    pub message: String,
    /// The remedy, one sentence.
    pub hint: String,
}

impl Failure {
    /// A failure with its remedy.
    pub fn new(code: ExitCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// One line that says what is wrong and one that says what to do, whatever the texts contain.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "dfw: error: {}", text::one_line(&self.message))?;
        writeln!(f, "hint: {}", text::one_line(&self.hint))
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(ExitCode::Config, text::chain(&error), error.hint())
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        let code = if error.is_denied() {
            ExitCode::Capability
        } else {
            ExitCode::Failure
        };
        Self::new(code, text::chain(&error), error.hint())
    }
}
