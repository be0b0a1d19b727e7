//! `balance: random`: a usable server by chance, each as often as its weight says. One step however
//! many servers there are, by the [alias method](super::alias).

use super::algorithm::{Algorithm, Ask, Lane};
use super::alias::Alias;

/// After so many draws that were of no use the rest is gone through instead.
const DRAWS: usize = 16;

/// Weighted draws.
pub struct Random {
    usable: Alias,
}

impl Algorithm for Random {
    type Settings = ();

    fn build(lane: &Lane, (): &(), _before: Option<&Self>) -> Self {
        let usable = (0u32..).zip(lane.servers()).filter(|(_, server)| server.usable());
        let usable: Vec<_> = usable.map(|(index, server)| (index, server.weight())).collect();
        Random { usable: Alias::new(&usable) }
    }

    fn candidate(&self, _lane: &Lane, ask: &mut Ask) -> Option<usize> {
        if ask.nth >= DRAWS {
            return None;
        }
        self.usable.draw(fastrand::u64(..))
    }
}
