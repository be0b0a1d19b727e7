//! Watches the frames of an HTTP/2 connection as they arrive, so that a client cannot hold it with
//! a byte now and then, nor keep it busy with frames that ask for nothing. Pure: `conn` feeds it
//! what it reads and asks for the deadline; the h2 crate behind does the rest of the checking.

use std::time::{Duration, Instant};

/// The client preface without its SETTINGS frame (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER: usize = 9;
/// PING, SETTINGS, PRIORITY, unknown and empty DATA frames in one second. Measuring clients send one
/// PING a round trip; above this it is a flood (CVE-2019-9512, -9515, -9518).
const MAX_CONTROL_PER_SECOND: u32 = 1000;

// RFC 9113 §6
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// A frame header, as far as it is of interest.
#[derive(Debug, Clone, Copy)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    /// The client preface; how much of it is missing.
    Preface(usize),
    /// A frame header; how much of it is there.
    Header([u8; HEADER], usize),
    Payload {
        frame: Frame,
        left: usize,
    },
}

/// Follows the frames over any number of reads.
#[derive(Debug)]
pub struct FrameWatch {
    /// The longest time for a frame, and for all frames of one head.
    whole: Duration,
    /// The longest silence within a DATA frame.
    silence: Duration,
    part: Part,
    /// The preface is complete with the first frame after it.
    opening: bool,
    /// Within HEADERS and CONTINUATION frames without END_HEADERS.
    in_head: bool,
    /// When what is not complete yet began.
    begun: Option<Instant>,
    last_byte: Instant,
    control: u32,
    control_since: Instant,
}

impl FrameWatch {
    /// For a connection whose preface is still to be read.
    pub fn new(now: Instant, whole: Duration, silence: Duration) -> Self {
        FrameWatch {
            whole,
            silence,
            part: Part::Preface(PREFACE.len()),
            opening: true,
            in_head: false,
            begun: Some(now),
            last_byte: now,
            control: 0,
            control_since: now,
        }
    }

    /// When what has begun must be complete; `None` between frames.
    pub fn deadline(&self) -> Option<Instant> {
        let begun = self.begun?;
        match self.part {
            Part::Payload { frame: Frame { kind: DATA, .. }, .. } if !self.in_head => {
                Some(self.last_byte + self.silence)
            }
            Part::Preface(_) | Part::Header(..) | Part::Payload { .. } => Some(begun + self.whole),
        }
    }

    /// Takes note of what was read.
    pub fn feed(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), &'static str> {
        self.last_byte = now;
        while !bytes.is_empty() {
            self.begun.get_or_insert(now);
            match &mut self.part {
                Part::Preface(left) | Part::Payload { left, .. } => {
                    let here = bytes.len().min(*left);
                    *left -= here;
                    bytes = bytes.get(here..).unwrap_or_default();
                }
                Part::Header(header, have) => {
                    let (here, rest) = bytes.split_at(bytes.len().min(HEADER - *have));
                    for (slot, byte) in header.iter_mut().skip(*have).zip(here) {
                        *slot = *byte;
                    }
                    *have += here.len();
                    bytes = rest;
                }
            }
            self.next_part(now)?;
        }
        Ok(())
    }

    /// Goes on to the next part when this one is complete.
    fn next_part(&mut self, now: Instant) -> Result<(), &'static str> {
        match self.part {
            Part::Preface(0) => self.part = Part::Header([0; HEADER], 0),
            Part::Header([a, b, c, kind, flags, ..], HEADER) => {
                let length = u32::from_be_bytes([0, a, b, c]);
                let frame = Frame { length, kind, flags };
                if length == 0 {
                    return self.frame_done(frame, now);
                }
                self.part = Part::Payload { frame, left: length as usize };
            }
            Part::Payload { frame, left: 0 } => return self.frame_done(frame, now),
            Part::Preface(_) | Part::Header(..) | Part::Payload { .. } => {}
        }
        Ok(())
    }

    fn frame_done(&mut self, frame: Frame, now: Instant) -> Result<(), &'static str> {
        self.part = Part::Header([0; HEADER], 0);
        self.opening = false;
        match frame.kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => self.in_head = frame.flags & END_HEADERS == 0,
            // frames of unknown types are ignored, but they have to be read
            PING | SETTINGS | PRIORITY | 10.. => self.count_control(now)?,
            DATA if frame.length == 0 && frame.flags & END_STREAM == 0 => self.count_control(now)?,
            _ => {}
        }
        if !self.in_head {
            self.begun = None;
        }
        Ok(())
    }

    fn count_control(&mut self, now: Instant) -> Result<(), &'static str> {
        if now.saturating_duration_since(self.control_since) >= Duration::from_secs(1) {
            (self.control, self.control_since) = (0, now);
        }
        self.control += 1;
        if self.control > MAX_CONTROL_PER_SECOND {
            return Err("flood of HTTP/2 control frames");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_secs(60);

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER + payload, 0xaa);
        bytes
    }

    fn opened(now: Instant) -> FrameWatch {
        let mut watch = FrameWatch::new(now, WHOLE, SILENCE);
        watch.feed(PREFACE, now).unwrap();
        watch.feed(&frame(SETTINGS, 0, 6), now).unwrap();
        watch
    }

    #[test]
    fn the_preface_and_its_settings_have_one_deadline() {
        let start = Instant::now();
        let mut watch = FrameWatch::new(start, WHOLE, SILENCE);
        let opening = [PREFACE.as_slice(), &frame(SETTINGS, 0, 12)].concat();
        for (i, byte) in opening.iter().enumerate() {
            assert_eq!(watch.deadline(), Some(start + WHOLE), "before byte {i}");
            watch.feed(&[*byte], start + Duration::from_secs(i as u64)).unwrap();
        }
        assert_eq!(watch.deadline(), None);
    }

    #[test]
    fn a_head_counts_from_its_first_byte_to_its_last_frame() {
        let start = Instant::now();
        let head = [
            frame(HEADERS, 0, 20),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, 0, 3),
            frame(CONTINUATION, END_HEADERS, 5),
        ]
        .concat();
        for size in 1..head.len() {
            let mut watch = opened(start);
            assert_eq!(watch.deadline(), None);
            let mut now = start;
            let pieces: Vec<&[u8]> = head.chunks(size).collect();
            for (i, piece) in pieces.iter().enumerate() {
                now += Duration::from_secs(1);
                watch.feed(piece, now).unwrap();
                let expected = (i + 1 < pieces.len()).then_some(start + Duration::from_secs(1) + WHOLE);
                assert_eq!(watch.deadline(), expected, "piece {i} of {size} bytes");
            }
        }
    }

    #[test]
    fn data_may_take_its_time_but_not_be_silent() {
        let start = Instant::now();
        let mut watch = opened(start);
        let data = frame(DATA, 0, 1000);
        for (i, piece) in data.chunks(100).enumerate() {
            let now = start + SILENCE * i as u32;
            watch.feed(piece, now).unwrap();
            let expected = (i < 10).then_some(now + SILENCE);
            assert_eq!(watch.deadline(), expected);
        }
        // but its frame header is a frame like any other
        watch.feed(&data[..5], start).unwrap();
        assert_eq!(watch.deadline(), Some(start + WHOLE));
    }

    #[test]
    fn frames_back_to_back_leave_no_deadline() {
        let start = Instant::now();
        let mut watch = opened(start);
        let many = [
            frame(HEADERS, END_HEADERS | END_STREAM, 30),
            frame(8, 0, 4),
            frame(DATA, END_STREAM, 0),
            frame(200, 0xff, 70),
        ]
        .concat();
        watch.feed(&many, start).unwrap();
        assert_eq!(watch.deadline(), None);
        watch.feed(&many[..many.len() - 1], start).unwrap();
        assert_eq!(watch.deadline(), Some(start + WHOLE));
    }

    #[test]
    fn a_flood_of_control_frames_ends_the_connection() {
        for kind in [PING, SETTINGS, PRIORITY, DATA, 200] {
            let start = Instant::now();
            let mut watch = opened(start);
            let one = frame(kind, 0, if kind == DATA { 0 } else { 8 });
            for i in 0..5000u32 {
                let steady = start + Duration::from_millis(u64::from(i) * 2);
                assert_eq!(watch.feed(&one, steady), Ok(()), "500 a second of kind {kind}");
            }
            let mut watch = opened(start);
            assert!((0..=1000).any(|_| watch.feed(&one, start).is_err()), "kind {kind}");
        }
    }

    #[test]
    fn random_cuts_never_change_the_outcome() {
        let start = Instant::now();
        for seed in 0..2000u64 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut stream = Vec::new();
            for _ in 0..rng.usize(1..8) {
                stream.extend(frame(rng.u8(..12), rng.u8(..), rng.usize(..50)));
            }
            let stop = rng.usize(..=stream.len());
            let stream = &stream[..stop];
            let mut whole = opened(start);
            whole.feed(stream, start).unwrap();
            let mut cut = opened(start);
            let mut rest = stream;
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(rng.usize(1..=rest.len()));
                cut.feed(piece, start).unwrap();
                rest = tail;
            }
            assert_eq!(whole.deadline(), cut.deadline(), "seed {seed}");
        }
    }
}
