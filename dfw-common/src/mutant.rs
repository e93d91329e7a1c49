//! Which check is left out, in the scratch object and the scratch tests of `cargo xtask mutate`.

/// The number of the check that is left out, 0 for none: the environment variable of this name, which the agent writes
/// into the object's constant of this name.
pub const VARIABLE: &str = "DFW_MUTANT";

#[cfg(target_arch = "bpf")]
mod object {
    /// Patched before the object is loaded; the verifier takes it for the constant that it then is.
    #[unsafe(no_mangle)]
    static DFW_MUTANT: u32 = 0;

    #[inline(always)]
    pub(super) fn number() -> u32 {
        // SAFETY: a whole, aligned word. The compiler must not know its value.
        unsafe { core::ptr::read_volatile(&raw const DFW_MUTANT) }
    }
}

#[cfg(not(target_arch = "bpf"))]
mod object {
    use std::{env, sync::OnceLock};

    pub(super) fn number() -> u32 {
        static NUMBER: OnceLock<u32> = OnceLock::new();
        *NUMBER.get_or_init(|| {
            let text = env::var(super::VARIABLE).unwrap_or_default();
            text.parse().unwrap_or(0)
        })
    }
}

/// The number of the check that is left out, 0 for none.
#[inline(always)]
pub fn number() -> u32 {
    object::number()
}
