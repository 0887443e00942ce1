//! ServeGen's rates: how often each client asked in each window of ten minutes,
//! and how regularly. When exactly, within a window, is drawn from that.

use super::{Arrival, Extent, Input, Malformed, rows};
use crate::serve::arrivals::Random;

/// Seconds of a window.
const WINDOW: f64 = 600.0;
/// The coefficient of variation of what is as regular as a clock.
const REGULAR: f64 = 0.01;
/// Bounds of what is believed of a row.
const MOST_RATE: f64 = 1e4;
const MOST_VARIATION: f64 = 1e6;

/// One client's window.
#[derive(Debug, PartialEq)]
struct Window {
    client: u64,
    /// Seconds.
    begins: f64,
    /// Requests a second.
    rate: f64,
    /// Coefficient of variation of the gaps.
    variation: f64,
}

/// Draws the arrivals of the first windows, as many as are wanted.
pub(super) fn parse(text: &str, extent: Extent, seed: u64) -> Result<Vec<Arrival>, Malformed> {
    let mut windows = rows(text).map(window).collect::<Result<Vec<_>, _>>()?;
    windows.retain(|window| window.rate > 0.0);
    windows.sort_by(|a, b| a.begins.total_cmp(&b.begins).then(a.client.cmp(&b.client)));
    let mut times: Vec<f64> = Vec::new();
    for together in windows.chunk_by(|a, b| a.begins == b.begins) {
        // The caller counts from the first arrival, which is a little later.
        let enough = times.len() >= extent.requests
            || times.first().is_some_and(|first| together[0].begins - first > extent.seconds);
        if enough {
            break;
        }
        together.iter().for_each(|window| window.draw(seed, extent.requests, &mut times));
    }
    let arrival = |at| Arrival { at, input: Input::Any, output_tokens: None };
    Ok(times.into_iter().map(arrival).collect())
}

fn window((line, row): (usize, Vec<&str>)) -> Result<Window, Malformed> {
    let malformed = |what: String| Malformed { line, what };
    let &[client, begins, rate, variation, ..] = row.as_slice() else {
        return Err(malformed(format!("has {} fields instead of at least 4", row.len())));
    };
    let number = |what: &str, text: &str, most: f64| {
        let number = text.parse().ok().filter(|n| (0.0..=most).contains(n));
        number.ok_or_else(|| malformed(format!("has \"{text}\" for {what}")))
    };
    Ok(Window {
        client: number("a client", client, 1e9)? as u64,
        begins: number("a time in seconds", begins, 1e12)?,
        rate: number("a rate", rate, MOST_RATE)?,
        variation: number("a coefficient of variation", variation, MOST_VARIATION)?,
    })
}

impl Window {
    /// Draws as many arrivals as the window had. The gaps between them, and to its
    /// ends, are Gamma numbers of the window's coefficient of variation, scaled to
    /// fill it; Gamma numbers stand for the Weibull ones that fit some windows better.
    fn draw(&self, seed: u64, most: usize, into: &mut Vec<f64>) {
        let mut random = Random::of(seed, &[self.client, self.begins.to_bits()]);
        let shape = self.variation.max(REGULAR).powi(-2);
        let count = (self.rate * WINDOW).round() as usize;
        let mut reached = 0.0;
        let gap = |_| {
            reached += random.gamma(shape);
            reached
        };
        let places: Vec<f64> = (0..=count).map(gap).collect();
        // Where gaps vary so much that all of these are 0, all arrive at once.
        let place = |at: f64| if reached > 0.0 { at / reached } else { 0.5 };
        let times = places[..count].iter().map(|&at| self.begins + WINDOW * place(at));
        into.extend(times.take(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "client,timestamp_s,rate_rps,cv,pattern,pattern_arg1,pattern_arg2\n";
    const ALL: Extent = Extent { requests: 100_000, seconds: f64::INFINITY };

    fn times(rows: &str, extent: Extent, seed: u64) -> Vec<f64> {
        let arrivals = parse(&format!("{HEAD}{rows}"), extent, seed).unwrap();
        arrivals.into_iter().map(|arrival| arrival.at).collect()
    }

    #[test]
    fn arrivals_have_the_windows_rate_and_seed() {
        let rows = "1,1200,2.0,1.5,Gamma,1,1\n0,600,1.0,0,Gamma,1,1\n";
        let drawn = times(rows, ALL, 3);
        assert_eq!(drawn, times(rows, ALL, 3));
        assert_ne!(drawn, times(rows, ALL, 4));
        let (first, second) = drawn.split_at(drawn.partition_point(|&at| at < 1200.0));
        assert_eq!(first.len(), 600, "a regular client asks once a second");
        assert_eq!(second.len(), 1200, "two a second, for ten minutes");
        assert!(drawn.iter().all(|at| (600.0..=1800.0).contains(at)));
    }

    #[test]
    fn no_more_windows_are_drawn_than_wanted() {
        let rows = "0,0,1.0,0,Gamma,1,1\n0,600,1.0,0,Gamma,1,1\n";
        assert_eq!(times(rows, Extent { requests: 5, ..ALL }, 1).len(), 5);
        assert_eq!(times(rows, Extent { seconds: 9.0, ..ALL }, 1).len(), 600);
    }

    #[test]
    fn arrivals_come_in_bursts_as_they_vary() {
        let spread = |variation| {
            let drawn = times(&format!("0,0,1.0,{variation},Gamma,1,1\n"), ALL, 1);
            assert_eq!(drawn.len(), 600);
            drawn.windows(2).filter(|pair| pair[1] - pair[0] < 0.01).count()
        };
        assert_eq!(spread("0"), 0);
        let bursts = ["1", "10", "1e6"].map(spread);
        assert!(bursts.is_sorted() && bursts[2] == 599, "{bursts:?}");
    }

    #[test]
    fn malformed_rows_are_named_by_their_line() {
        let error = |row: &str| parse(&format!("{HEAD}\n{row}\n"), ALL, 1).unwrap_err();
        let few = error("0,1");
        assert_eq!((few.line, few.what.as_str()), (3, "has 2 fields instead of at least 4"));
        assert_eq!(error("0,0,-1,1,Gamma").what, "has \"-1\" for a rate");
        assert_eq!(error("0,0,1,1e9,Gamma").what, "has \"1e9\" for a coefficient of variation");
        assert_eq!(error("0,0,1,NaN,Gamma").what, "has \"NaN\" for a coefficient of variation");
    }
}
