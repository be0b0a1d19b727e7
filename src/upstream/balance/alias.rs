//! A draw by weight in one step, however many there are to choose from: the alias method (Walker:
//! "An efficient method for generating discrete random variables with general distributions",
//! 1977; made as in Vose: "A linear algorithm for generating random numbers with a given
//! distribution", 1991).

/// As many columns of the same height as there are servers. Each holds a part of the share of one
/// server and, above that, a part of the share of one other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Alias {
    columns: Box<[Column]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    /// How much of the column is of `server`, in parts of 2^32 - 1.
    own: u32,
    server: u32,
    other: u32,
}

impl Alias {
    /// Of servers and their weights.
    pub fn new(servers: &[(u32, u16)]) -> Alias {
        let height: u64 = servers.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let count = u64::try_from(servers.len()).unwrap_or(u64::MAX);
        // in units in which all shares together fill all columns, each `height` high
        let share = |(server, weight): &(u32, u16)| (*server, u64::from(*weight) * count);
        let (mut small, mut large): (Vec<_>, Vec<_>) =
            servers.iter().map(share).partition(|(_, share)| *share < height);
        let mut columns = Vec::with_capacity(servers.len());
        while let (Some(&(server, share)), Some(&(other, more))) = (small.last(), large.last()) {
            small.pop();
            large.pop();
            let own = u128::from(share) * u128::from(u32::MAX) / u128::from(height.max(1));
            columns.push(Column { own: u32::try_from(own).unwrap_or(u32::MAX), server, other });
            let rest = (other, more - (height - share));
            if rest.1 < height { small.push(rest) } else { large.push(rest) }
        }
        let full = |(server, _)| Column { own: u32::MAX, server, other: server };
        columns.extend(small.into_iter().chain(large).map(full));
        Alias { columns: columns.into() }
    }

    /// The server that a random number falls to; `None` when there are none.
    pub fn draw(&self, random: u64) -> Option<usize> {
        // which column, and how high in it (Lemire: "Fast random integer generation in an interval")
        let product = u128::from(random) * self.columns.len() as u128;
        let column = self.columns.get((product >> 64) as usize)?;
        let server = if (product >> 32) as u32 <= column.own { column.server } else { column.other };
        usize::try_from(server).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What falls to each, of as many draws, evenly spaced.
    fn shares(weights: &[u16], draws: u64) -> Vec<u64> {
        let servers: Vec<_> = (0..).zip(weights.iter().copied()).collect();
        let alias = Alias::new(&servers);
        let mut shares = vec![0; weights.len()];
        for draw in 0..draws {
            shares[alias.draw(draw * (u64::MAX / draws)).unwrap()] += 1;
        }
        shares
    }

    #[test]
    fn shares_are_exact() {
        for weights in [&[1][..], &[5, 1, 1], &[1, 1, 1, 1], &[1, 2, 3, 4, 5, 6, 7, 8, 9], &[65535, 1, 65535]]
        {
            let draws = 1_000_000;
            let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            for (share, weight) in shares(weights, draws).into_iter().zip(weights) {
                let exact = draws * u64::from(*weight) / sum;
                // at each edge between two servers a draw may fall to either
                let edges = 2 * weights.len() as u64;
                assert!(share.abs_diff(exact) <= edges, "{weights:?}: {share} draws instead of {exact}");
            }
        }
    }

    #[test]
    fn of_nobody_nobody_is_drawn() {
        assert_eq!(Alias::new(&[]).draw(u64::MAX), None);
        assert_eq!(Alias::new(&[(3, 7)]).draw(u64::MAX), Some(3));
    }
}
