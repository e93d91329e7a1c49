//! Times as people write them.

use std::time::Duration;

/// From the longest.
const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// Reads a number and a unit: 30s, 5m, 2h, 1d.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let example = || "write a number and a unit: 30s, 5m, 2h, 1d".to_owned();
    let number: u64 = number.parse().map_err(|_| example())?;
    let seconds = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, seconds)) => number.checked_mul(*seconds).ok_or_else(example)?,
        None => {
            // `5min` begins as `5m` does.
            let right = UNITS.iter().find(|(name, _)| unit.starts_with(name));
            let right = right.map(|(name, _)| format!("did you mean `{number}{name}`?"));
            return Err(right.unwrap_or_else(example));
        }
    };
    Ok(Duration::from_secs(seconds))
}

/// `1d 2h`, `9m 58s`: the two largest units.
pub(super) fn shown(seconds: u64) -> String {
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (name, length) in UNITS {
        if rest >= length {
            parts.push(format!("{}{name}", rest / length));
            rest %= length;
        }
    }
    parts.truncate(2);
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.join(" ")
    }
}
