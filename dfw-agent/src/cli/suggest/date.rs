//! Dates for people and files.

use std::fmt;

/// Seconds since 1970 as `2026-11-25 21:40:12`, in UTC.
pub(super) struct Date(pub(super) u64);

impl fmt::Display for Date {
    /// Days to a date of the Gregorian calendar whose years begin in March: <https://howardhinnant.github.io/date_algorithms.html>.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400 + 719_468, self.0 % 86_400);
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (year, month) = (
            era * 400 + year + u64::from(month >= 10),
            (month + 2) % 12 + 1,
        );
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Date;

    #[test]
    fn dates() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_078_012_800, "2004-02-29 00:00:00"),
            (1_764_106_812, "2025-11-25 21:40:12"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(Date(seconds).to_string(), date);
        }
        // Whatever an agent says.
        let _ = Date(u64::MAX).to_string();
    }
}
