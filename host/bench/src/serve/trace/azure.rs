//! Azure's traces: one row a request, with the time of day.

use super::{Arrival, Input, Malformed, rows};

/// Reads all rows; times are seconds since 1970.
pub(super) fn parse(text: &str) -> Result<Vec<Arrival>, Malformed> {
    let arrival = |(line, row): (usize, Vec<&str>)| {
        let malformed = |what: String| Malformed { line, what };
        let &[time, context, generated] = row.as_slice() else {
            return Err(malformed(format!("has {} fields instead of 3", row.len())));
        };
        let count = |text: &str| {
            text.parse().map_err(|_| malformed(format!("has \"{text}\" for a number of tokens")))
        };
        let at = nanoseconds(time).ok_or_else(|| malformed(format!("has the time \"{time}\"")))?;
        // Seconds of this century fill an f64 to a fraction of a microsecond.
        Ok(Arrival {
            at: at as f64 / 1e9,
            input: Input::Tokens(count(context)?),
            output_tokens: Some(count(generated)?),
        })
    };
    rows(text).map(arrival).collect()
}

/// Nanoseconds since 1970 of `2023-11-16 18:17:03.9799600`, with or without a time
/// zone, which must be UTC.
fn nanoseconds(time: &str) -> Option<i64> {
    let time = time.strip_suffix("+00:00").or(time.strip_suffix('Z')).unwrap_or(time);
    let (date, clock) = time.split_once([' ', 'T'])?;
    let numbers = |text: &str, between| -> Option<Vec<i64>> {
        text.split(between).map(|n| n.parse().ok().filter(|&n| n >= 0)).collect()
    };
    let &[year, month, day] = numbers(date, '-')?.as_slice() else { return None };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let &[hour, minute, second] = numbers(clock, ':')?.as_slice() else { return None };
    let sound = (1970..=2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && (1..=9).contains(&fraction.len())
        && fraction.bytes().all(|b| b.is_ascii_digit());
    if !sound {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000_000_000 + nanos)
}

/// Days since 1970 (`days_from_civil` of Howard Hinnant's "chrono-compatible
/// low-level date algorithms", for years after Christ).
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is their last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(nanoseconds("1970-01-01 00:00:00"), Some(0));
        // `date -u -d @951827696` and `date -u -d @1700158623`.
        assert_eq!(nanoseconds("2000-02-29T12:34:56.5Z"), Some(951_827_696_500_000_000));
        assert_eq!(nanoseconds("2023-11-16 18:17:03.9799600"), Some(1_700_158_623_979_960_000));
        assert_eq!(nanoseconds("2024-05-10 00:00:00.009930+00:00").map(|n| n % 1_000), Some(0));
        for bad in ["", "2023-11-16", "2023-13-01 00:00:00", "2023-11-16 25:00:00", "x-1-1 0:0:0"] {
            assert_eq!(nanoseconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn rows_have_a_time_and_two_lengths() {
        let row = |row: &str| parse(&format!("head\n{row}\n"));
        let arrivals = row("2023-11-16 18:17:03.9799600,4808,10").unwrap();
        assert_eq!(
            (&arrivals[0].input, arrivals[0].output_tokens),
            (&Input::Tokens(4808), Some(10))
        );
        assert_eq!(row("2023-11-16 18:17:03,1").unwrap_err().what, "has 2 fields instead of 3");
        assert!(row("2023-11-16 18:17:03,-1,2").unwrap_err().what.contains("\"-1\""));
    }
}
