//! Every dependency comes under a licence that both of dfw's own licences can live with.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use spdx::{Expression, ParseMode};

use crate::{sh, workspace};

/// Permissive licences that were read and accepted, by SPDX name.
const ACCEPTED: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Exceptions that only give more rights.
const ACCEPTED_EXCEPTION: &str = "LLVM-exception";

/// Checks what `cargo metadata` says of the dependencies on this platform, those of tests included.
pub(super) fn run() -> Result<()> {
    let host = workspace::host()?;
    let mut cargo = workspace::cargo("metadata");
    cargo.args([
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        &host,
    ]);
    let metadata: Value = serde_json::from_str(&sh::read(&mut cargo)?).context("cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;

    let refusals: Vec<String> = packages
        .iter()
        .filter(|package| !package["source"].is_null())
        .filter_map(|package| {
            let refusal = refusal(package["license"].as_str())?;
            Some(format!(
                "{} {}: {refusal}",
                package["name"], package["version"]
            ))
        })
        .collect();
    for refusal in &refusals {
        eprintln!("error: {refusal}");
    }
    if !refusals.is_empty() {
        bail!(
            "{} dependencies whose licence is not accepted",
            refusals.len()
        );
    }
    Ok(())
}

/// Why a licence expression is not accepted; none if it is.
fn refusal(licence: Option<&str>) -> Option<String> {
    let Some(licence) = licence else {
        return Some("names no licence".to_owned());
    };
    // Lax: `/` for OR is still met in old packages.
    let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("`{licence}` cannot be read: {error}")),
    };
    let accepted = expression.evaluate(|requirement| {
        let name = requirement.license.id().map(|id| id.name);
        let exception = requirement.addition.as_ref().map(ToString::to_string);
        name.is_some_and(|name| ACCEPTED.contains(&name))
            && exception.is_none_or(|exception| exception == ACCEPTED_EXCEPTION)
    });
    (!accepted).then(|| format!("`{licence}` is not accepted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_needs_one_accepted_and_a_sum_all() {
        for accepted in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-2.0 OR BSD-3-Clause",
            "MIT AND ISC",
        ] {
            assert_eq!(refusal(Some(accepted)), None, "{accepted}");
        }
        assert_eq!(refusal(Some("Apache-2.0 WITH LLVM-exception")), None);
        for refused in ["GPL-3.0-only", "MIT AND GPL-2.0", "Nonsense-1.0", ""] {
            assert!(refusal(Some(refused)).is_some(), "{refused}");
        }
        assert!(refusal(Some("MIT WITH Classpath-exception-2.0")).is_some());
        assert!(refusal(None).is_some());
    }
}
