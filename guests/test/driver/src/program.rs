//! The bytes that decide what is called.

/// Texts that mean something to somebody: names of files, hosts and headers, and such as are none.
const WORDS: [&str; 36] = [
    "a",
    "b",
    "c",
    "dir",
    "link",
    "data",
    "..",
    ".",
    "",
    "/",
    "//",
    "a/",
    "canary",
    "../canary",
    "link/../../canary",
    "/etc/passwd",
    "/proc/self/environ",
    "proc",
    "a\0b",
    "C:\\",
    "\u{202e}txt",
    "\n",
    "\x1b[2J",
    "-rf",
    "localhost",
    "peer",
    "peer.demo.svc.cluster.local",
    "10.96.0.1",
    "10.96.0.1:80",
    "[::1]:80",
    "host",
    "content-length",
    "transfer-encoding",
    "18446744073709551616",
    "driver",
    "ü",
];

/// Sizes next to which something changes: a page, a pipe, what a stream takes, what chance gives at once.
const SIZES: [u64; 12] = [
    0, 1, 16, 4095, 4096, 4097, 65_535, 65_536, 65_537, 262_144, 1_048_575, 1_048_576,
];

/// More than one call may carry.
const TOO_MUCH: usize = 2_097_153;

/// Bytes of one step. What it does not use is skipped, so that a step is the same whatever the ones before it met.
const STEP_BYTES: usize = 20;

/// A whole program, step by step.
pub enum Program {
    Given(std::vec::IntoIter<u8>),
    Made { seed: u64, at: u64, steps: u64 },
}

impl Program {
    pub fn given(hex: &str) -> Self {
        let digit = |byte: &u8| (*byte as char).to_digit(16).unwrap_or_default() as u8;
        let bytes: Vec<u8> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| pair.iter().map(digit).fold(0, |sum, digit| sum << 4 | digit))
            .collect();
        Self::Given(bytes.into_iter())
    }

    pub fn made(seed: u64, steps: u64) -> Self {
        Self::Made { seed, at: 0, steps }
    }

    /// The next step, if there is one.
    pub fn step(&mut self) -> Option<Step> {
        match self {
            Self::Given(bytes) if bytes.len() == 0 => None,
            Self::Given(bytes) => {
                let step: Vec<u8> = bytes.by_ref().take(STEP_BYTES).collect();
                Some(Step::Given(step.into_iter()))
            }
            Self::Made { at, steps, .. } if *at > *steps => None,
            Self::Made { seed, at, .. } => {
                *at += 1;
                Some(Step::Made(mix(seed.wrapping_add(mix(*at)))))
            }
        }
    }
}

/// The bytes of one step; where they end all is zero.
pub enum Step {
    Given(std::vec::IntoIter<u8>),
    /// SplitMix64.
    Made(u64),
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Step {
    pub fn byte(&mut self) -> u8 {
        match self {
            Self::Given(bytes) => bytes.next().unwrap_or_default(),
            Self::Made(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                mix(*state) as u8
            }
        }
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// One thing of sixteen: what costs much is not to happen all the time.
    pub fn seldom(&mut self) -> bool {
        self.byte() & 15 == 15
    }

    /// One thing of some thousands: what ends the program, as the interface has it, so that most get far.
    pub fn deadly(&mut self) -> bool {
        self.byte() == 255 && self.byte() >= 240
    }

    /// A number below `count`, which is not zero.
    pub fn below(&mut self, count: usize) -> usize {
        match count {
            0..=256 => usize::from(self.byte()) % count,
            _ => usize::from(u16::from_be_bytes([self.byte(), self.byte()])) % count,
        }
    }

    /// A number of any size, most often a small one.
    pub fn number(&mut self) -> u64 {
        match self.byte() % 8 {
            0..3 => u64::from(self.byte()),
            3 | 4 => SIZES[self.below(SIZES.len())],
            5 => u64::from(u16::from_be_bytes([self.byte(), self.byte()])),
            6 => u64::from(u32::MAX) - 1 + u64::from(self.byte() % 4),
            _ => u64::MAX - u64::from(self.byte()),
        }
    }

    /// How much is handed over in one call.
    pub fn size(&mut self) -> usize {
        match self.byte() % 8 {
            0..7 => self.below(256),
            _ if self.deadly() => TOO_MUCH,
            _ => SIZES[self.below(SIZES.len())] as usize,
        }
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let size = self.size();
        vec![self.byte(); size]
    }

    pub fn text(&mut self) -> String {
        match self.byte() % 16 {
            0..13 => WORDS[self.below(WORDS.len())].to_owned(),
            13 => "x".repeat(self.size()),
            14 => format!("{}.{}", self.byte(), WORDS[self.below(WORDS.len())]),
            _ => String::from_utf8_lossy(&[self.byte(), self.byte(), self.byte()]).into_owned(),
        }
    }

    /// A path: words with slashes between them.
    pub fn path(&mut self) -> String {
        let mut path = self.text();
        for _ in 0..self.byte() % 8 / 2 {
            path.push('/');
            path += &self.text();
        }
        path
    }
}
