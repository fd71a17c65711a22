//! Sets of completion indexes, and the text in which a status keeps them: `0-2,5`.

use std::{collections::BTreeSet, fmt};

/// A set of completion indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(pub BTreeSet<i32>);

impl Indexes {
    /// Reads the text of a status or of a success policy; what lies at or beyond `completions` is left out, and so is
    /// what cannot be read.
    #[must_use]
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut set = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.trim().parse::<i32>(), last.trim().parse::<i32>()) else {
                continue;
            };
            // Clamped, so that no text makes a larger set than there are completions.
            set.extend(first.max(0)..=last.min(completions.saturating_sub(1)));
        }
        Self(set)
    }

    /// Whether that index is in it.
    #[must_use]
    pub fn has(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.next_if(|next| *next == last + 1).is_some() {
                last += 1;
            }
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_are_written_by_their_ends() {
        let text = |set: &[i32]| Indexes(set.iter().copied().collect()).to_string();
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[3]), "3");
        assert_eq!(text(&[0, 1, 2, 5]), "0-2,5");
        assert_eq!(text(&[0, 1, 4]), "0,1,4");
        assert_eq!(Indexes::parse("0-9,x,3-", 4).to_string(), "0-3");
    }

    proptest! {
        #[test]
        fn reading_gives_what_was_written(set in prop::collection::btree_set(0..40_i32, 0..30)) {
            let set = Indexes(set);
            prop_assert_eq!(Indexes::parse(&set.to_string(), 40), set);
        }
    }
}
