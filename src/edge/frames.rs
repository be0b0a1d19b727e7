//! Watches the frames of an HTTP/2 connection as they arrive, so that a client cannot hold it with
//! a byte now and then, nor keep it busy with frames that ask for nothing. Pure: `conn` feeds it
//! what it reads and asks for the deadline; the h2 crate behind does the rest of the checking.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The client preface without its SETTINGS frame (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER: usize = 9;
/// PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown and empty DATA frames in one second. Measuring clients
/// send one PING a round trip; above this it is a flood (CVE-2019-9512, -9515, -9518).
const MAX_CONTROL_PER_SECOND: u32 = 1000;
/// So many bytes to the client are worth a WINDOW_UPDATE that is not counted: it says that it has read them,
/// once for the stream and once for the connection.
const BYTES_PER_UPDATE: u64 = 32;
/// More than is on its way to a client at once.
const MOST_BYTES_OWED: u64 = 4 * 1024 * 1024;

// RFC 9113 §6
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const RAPID_RESET: &str = "more requests given up in a second than limits.stream_resets_per_second";
const FLOOD: &str = "a flood of HTTP/2 frames that ask for nothing";

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
    limits: FrameLimits,
    part: Part,
    /// The preface is complete with the first frame after it.
    opening: bool,
    /// Within HEADERS and CONTINUATION frames without END_HEADERS.
    in_head: bool,
    /// When what is not complete yet began.
    begun: Option<Instant>,
    last_byte: Instant,
    control: Meter,
    resets: Meter,
    /// Bytes to the client for which it has sent no WINDOW_UPDATE yet.
    owed: u64,
    /// Why no more is read.
    breach: Arc<OnceLock<&'static str>>,
}

/// What a client may do.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// The longest time for a frame, and for all frames of one head.
    pub whole: Duration,
    /// The longest silence within a DATA frame.
    pub silence: Duration,
    /// RST_STREAM frames in one second (CVE-2023-44487).
    pub resets: u32,
}

/// Counts what may happen so often within a second.
#[derive(Debug)]
struct Meter {
    most: u32,
    count: u32,
    since: Instant,
}

impl Meter {
    fn count(&mut self, now: Instant, flood: &'static str) -> Result<(), &'static str> {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.count, self.since) = (0, now);
        }
        self.count += 1;
        if self.count > self.most { Err(flood) } else { Ok(()) }
    }
}

impl FrameWatch {
    /// For a connection whose preface is still to be read.
    pub fn new(now: Instant, limits: FrameLimits) -> Self {
        let meter = |most| Meter { most, count: 0, since: now };
        FrameWatch {
            limits,
            part: Part::Preface(PREFACE.len()),
            opening: true,
            in_head: false,
            begun: Some(now),
            last_byte: now,
            control: meter(MAX_CONTROL_PER_SECOND),
            resets: meter(limits.resets),
            owed: 0,
            breach: Arc::default(),
        }
    }

    /// Where it will be said why the connection is to end.
    pub fn breach(&self) -> Arc<OnceLock<&'static str>> {
        self.breach.clone()
    }

    /// The connection is to end.
    pub fn is_over(&self) -> bool {
        self.breach.get().is_some()
    }

    /// The client has done something for which its connection ends.
    pub fn end(&self, why: &'static str) {
        self.breach.get_or_init(|| why);
    }

    /// So many bytes went to the client.
    pub fn sent(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.owed = self.owed.saturating_add(bytes).min(MOST_BYTES_OWED);
    }

    /// When what has begun must be complete; `None` between frames.
    pub fn deadline(&self) -> Option<Instant> {
        let begun = self.begun?;
        match self.part {
            Part::Payload { frame: Frame { kind: DATA, .. }, .. } if !self.in_head => {
                Some(self.last_byte + self.limits.silence)
            }
            Part::Preface(_) | Part::Header(..) | Part::Payload { .. } => Some(begun + self.limits.whole),
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
            RST_STREAM => self.resets.count(now, RAPID_RESET)?,
            WINDOW_UPDATE if self.owed >= BYTES_PER_UPDATE => self.owed -= BYTES_PER_UPDATE,
            // frames of unknown types are ignored, but they have to be read
            PING | SETTINGS | PRIORITY | WINDOW_UPDATE | 10.. => self.control.count(now, FLOOD)?,
            DATA if frame.length == 0 && frame.flags & END_STREAM == 0 => self.control.count(now, FLOOD)?,
            _ => {}
        }
        if !self.in_head {
            self.begun = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_secs(60);
    const LIMITS: FrameLimits = FrameLimits { whole: WHOLE, silence: SILENCE, resets: 200 };

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER + payload, 0xaa);
        bytes
    }

    fn opened(now: Instant) -> FrameWatch {
        let mut watch = FrameWatch::new(now, LIMITS);
        watch.feed(PREFACE, now).unwrap();
        watch.feed(&frame(SETTINGS, 0, 6), now).unwrap();
        watch
    }

    #[test]
    fn the_preface_and_its_settings_have_one_deadline() {
        let start = Instant::now();
        let mut watch = FrameWatch::new(start, LIMITS);
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
        for kind in [PING, SETTINGS, PRIORITY, WINDOW_UPDATE, DATA, 200] {
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
    fn requests_given_up_in_masses_end_the_connection() {
        let start = Instant::now();
        let request = [frame(HEADERS, END_HEADERS | END_STREAM, 20), frame(RST_STREAM, 0, 4)].concat();
        let mut watch = opened(start);
        for i in 0..1000u32 {
            let steady = start + Duration::from_millis(u64::from(i) * 6);
            assert_eq!(watch.feed(&request, steady), Ok(()), "166 a second");
        }
        let mut watch = opened(start);
        assert_eq!((0..1000).position(|_| watch.feed(&request, start).is_err()), Some(200));
    }

    /// A fast download has more updates than any other frame may come.
    #[test]
    fn updates_that_answer_what_was_sent_are_no_flood() {
        let start = Instant::now();
        let mut watch = opened(start);
        for _ in 0..100_000 {
            watch.sent(16_384);
            watch.feed(&frame(WINDOW_UPDATE, 0, 4).repeat(2), start).unwrap();
        }
        let updates = frame(WINDOW_UPDATE, 0, 4);
        assert!((0..200_000).any(|_| watch.feed(&updates, start).is_err()), "what was sent is paid for once");
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
