//! Which datagrams can be sent as one that the kernel cuts (`UDP_SEGMENT`, udp(7)): all of one length, but for a last one
//! that may be shorter. Pure; asked by `batch`.

/// The kernel takes no more at once, headers included.
const MOST_BYTES: usize = 65_000;
/// Shorter ones, or fewer, are not worth it.
const LEAST_COUNT: usize = 3;
/// What fits in a packet of every Ethernet: a longer one would have to be cut again, which is refused.
const LONGEST: usize = 1452;

/// The first so many, to be cut at this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub count: usize,
    pub length: u16,
}

/// As many as go together from the beginning of these lengths; `None` when that is not worth it.
pub fn fit(mut lengths: impl Iterator<Item = usize>) -> Option<Cut> {
    let first = lengths.next().filter(|first| (1..=LONGEST).contains(first))?;
    let (mut count, mut bytes) = (1, first);
    for length in lengths {
        if length > first || length == 0 || bytes + length > MOST_BYTES {
            break;
        }
        count += 1;
        bytes += length;
        if length < first {
            break;
        }
    }
    let length = u16::try_from(first).ok()?;
    (count >= LEAST_COUNT).then_some(Cut { count, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(lengths: &[usize]) -> Option<usize> {
        fit(lengths.iter().copied()).map(|cut| cut.count)
    }

    #[test]
    fn those_of_one_length_and_a_shorter_last_one() {
        assert_eq!(fits(&[100; 8]), Some(8));
        assert_eq!(fits(&[100, 100, 100, 40, 100]), Some(4));
        assert_eq!(fits(&[100, 100, 100, 101]), Some(3));
        assert_eq!(fits(&[100, 40, 100]), None, "two are not worth it");
        assert_eq!(fits(&[100, 100, 0, 100]), None, "an empty one would not be sent");
        assert_eq!(fits(&[0, 0, 0, 0]), None);
        assert_eq!(fits(&[2000; 8]), None, "it would be cut again on its way");
        assert_eq!(fits(&[1400; 100]), Some(46), "no more than a packet can say");
        assert_eq!(fits(&[]), None);
    }
}
