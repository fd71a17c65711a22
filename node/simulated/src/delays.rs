//! How long pretending pods take to start, to run and to stop. This is what the file of `--simulated-delays` holds:
//!
//! ```yaml
//! start_milliseconds: 200          # from the binding until the pod is ready
//! stop_milliseconds: [0, 50]       # from its deletion until it is gone; each pod draws its own between the two
//! images:
//!   slow:                          # pods whose first container has this image
//!     start_milliseconds: 5000
//!     run_milliseconds: 1000       # from ready until it has succeeded, unless it restarts always
//! ```

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

/// A time, or two between which it is drawn.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Delay {
    /// Always so many milliseconds.
    Always(u32),
    /// Between so many milliseconds and so many.
    Between(u32, u32),
}

impl Delay {
    /// The time, by a number drawn at random.
    #[must_use]
    pub fn draw(self, draw: u32) -> Duration {
        let milliseconds = match self {
            Self::Always(milliseconds) => milliseconds,
            Self::Between(least, most) => {
                let range = most.saturating_sub(least).saturating_add(1);
                least + draw.checked_rem(range).unwrap_or(0)
            }
        };
        Duration::from_millis(u64::from(milliseconds))
    }
}

/// How long pods take; what is left out takes no time, and nothing ends by itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Delays {
    /// From the binding until the pod is ready.
    pub start_milliseconds: Option<Delay>,
    /// From ready until it has succeeded, unless it restarts always.
    pub run_milliseconds: Option<Delay>,
    /// From its deletion until it is gone; never longer than its grace period.
    pub stop_milliseconds: Option<Delay>,
    /// For pods whose first container has this image.
    pub images: BTreeMap<String, Delays>,
}

impl Delays {
    fn of(&self, image: &str, pick: impl Fn(&Self) -> Option<Delay>) -> Option<Delay> {
        self.images.get(image).and_then(&pick).or_else(|| pick(self))
    }

    /// How long a pod of the image takes to start.
    #[must_use]
    pub fn start(&self, image: &str, draw: u32) -> Duration {
        self.of(image, |d| d.start_milliseconds)
            .map_or(Duration::ZERO, |delay| delay.draw(draw))
    }

    /// How long it runs; `None` for ever.
    #[must_use]
    pub fn run(&self, image: &str, draw: u32) -> Option<Duration> {
        self.of(image, |d| d.run_milliseconds).map(|delay| delay.draw(draw))
    }

    /// How long it takes to stop.
    #[must_use]
    pub fn stop(&self, image: &str, draw: u32) -> Duration {
        self.of(image, |d| d.stop_milliseconds)
            .map_or(Duration::ZERO, |delay| delay.draw(draw))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_has_its_own_delays_and_the_rest_of_all() {
        let delays: Delays = serde_json::from_value(json!({
            "start_milliseconds": 200, "stop_milliseconds": [10, 12],
            "images": {"slow": {"start_milliseconds": 5000, "run_milliseconds": 1}}}))
        .unwrap();
        let ms = Duration::from_millis;
        assert_eq!((delays.start("any", 7), delays.run("any", 7)), (ms(200), None));
        assert_eq!(
            (delays.start("slow", 7), delays.run("slow", 7)),
            (ms(5000), Some(ms(1)))
        );
        let stops: Vec<Duration> = (0..4).map(|draw| delays.stop("slow", draw)).collect();
        assert_eq!(stops, [ms(10), ms(11), ms(12), ms(10)]);
        assert_eq!(Delays::default().start("any", 1), Duration::ZERO);
        assert!(
            serde_json::from_value::<Delays>(json!({"start": 5})).is_err(),
            "a slip is told"
        );
    }
}
