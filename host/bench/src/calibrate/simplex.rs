//! The least value of a function of a few numbers, without derivatives (Nelder and Mead,
//! "A simplex method for function minimization", The Computer Journal 7, 1965): times have
//! kinks where the longer of two becomes the other, and Nelder and Mead do not mind.

/// Iterations of one simplex.
const ITERATIONS: usize = 1500;
/// A simplex can shrink to nothing on a slope; a fresh one then goes on from its best point.
const RESTARTS: usize = 8;
/// First edge of a simplex, in the numbers' own unit.
const EDGE: f64 = 0.3;
/// Difference between best and worst point at which a simplex has found its place.
const CLOSE: f64 = 1e-12;

/// The point near `start` at which `f` is least. The same start gives the same point.
pub(super) fn least(f: impl Fn(&[f64]) -> f64, start: &[f64]) -> Vec<f64> {
    let mut best = start.to_vec();
    for restart in 0..RESTARTS {
        // Another edge and another direction each time.
        let edge = if restart % 2 == 0 { EDGE } else { -EDGE } / (1.0 + restart as f64);
        best = descend(&f, &best, edge);
    }
    best
}

fn descend(f: &impl Fn(&[f64]) -> f64, start: &[f64], edge: f64) -> Vec<f64> {
    let corner = |i: usize| {
        let mut point = start.to_vec();
        if let Some(number) = i.checked_sub(1).and_then(|i| point.get_mut(i)) {
            *number += edge;
        }
        (f(&point), point)
    };
    let mut simplex: Vec<(f64, Vec<f64>)> = (0..=start.len()).map(corner).collect();
    for _ in 0..ITERATIONS {
        simplex.sort_by(|a, b| a.0.total_cmp(&b.0));
        let last = simplex.len() - 1;
        if simplex[last].0 - simplex[0].0 < CLOSE {
            break;
        }
        let centre: Vec<f64> = (0..start.len())
            .map(|i| simplex[..last].iter().map(|(_, p)| p[i]).sum::<f64>() / last as f64)
            .collect();
        // A point on the line from the worst through the centre of the others.
        let at = |distance: f64| {
            let worst = &simplex[last].1;
            let point: Vec<f64> =
                centre.iter().zip(worst).map(|(c, w)| c + distance * (c - w)).collect();
            (f(&point), point)
        };
        let reflected = at(1.0);
        let better = if reflected.0 < simplex[0].0 {
            let expanded = at(2.0);
            Some(if expanded.0 < reflected.0 { expanded } else { reflected })
        } else if reflected.0 < simplex[last - 1].0 {
            Some(reflected)
        } else {
            Some(at(-0.5)).filter(|contracted| contracted.0 < simplex[last].0)
        };
        match better {
            Some(better) => simplex[last] = better,
            None => {
                let best = simplex[0].1.clone();
                for (value, point) in &mut simplex[1..] {
                    point.iter_mut().zip(&best).for_each(|(p, b)| *p = (*p + b) / 2.0);
                    *value = f(point);
                }
            }
        }
    }
    simplex.sort_by(|a, b| a.0.total_cmp(&b.0));
    simplex.swap_remove(0).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bent_valley_is_followed_to_its_end() {
        // Rosenbrock's function: least at (1, 1).
        let f = |p: &[f64]| (1.0 - p[0]).powi(2) + 100.0 * (p[1] - p[0] * p[0]).powi(2);
        let found = least(f, &[-1.2, 1.0]);
        assert!(found.iter().all(|x| (x - 1.0).abs() < 1e-3), "{found:?}");
    }

    #[test]
    fn kinks_in_several_dimensions_are_no_obstacle() {
        let place = [0.3, -1.0, 2.0, 0.0, 1.5];
        let f = |p: &[f64]| p.iter().zip(&place).map(|(p, q)| (p - q).abs()).sum();
        let found = least(f, &[0.0; 5]);
        assert!(found.iter().zip(&place).all(|(p, q)| (p - q).abs() < 1e-2), "{found:?}");
    }
}
