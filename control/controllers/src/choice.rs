//! Which controllers run, as `--controllers` of Kubernetes' own component says it: `*` for all, a name for one, `-name` for
//! all but one. What is said first of a controller holds.

use crate::{CONTROLLERS, driver::Controller};

/// Why a choice cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// A name is none of a controller.
    #[error("there is no controller {name:?}; there are {}", names().join(", "))]
    Unknown {
        /// What was written.
        name: String,
    },
    /// Nothing is left to run.
    #[error("no controller is chosen; `*` are all")]
    Nothing,
}

fn names() -> Vec<&'static str> {
    CONTROLLERS.iter().map(|controller| controller.name).collect()
}

/// The controllers that these words choose.
///
/// # Errors
/// When a word names no controller, or all of them choose none.
pub fn chosen(words: &[String]) -> Result<Vec<&'static Controller>, ChoiceError> {
    for word in words.iter().filter(|word| *word != "*") {
        let name = word.strip_prefix('-').unwrap_or(word);
        if !names().contains(&name) {
            return Err(ChoiceError::Unknown { name: name.to_owned() });
        }
    }
    let runs = |name: &str| {
        let about = words.iter().map(|word| match word.strip_prefix('-') {
            Some(without) => (without, false),
            None => (word.as_str(), true),
        });
        let mut said = about.filter(|(word, _)| *word == name);
        said.next()
            .map_or_else(|| words.iter().any(|word| word == "*"), |(_, runs)| runs)
    };
    let chosen: Vec<_> = CONTROLLERS
        .into_iter()
        .filter(|controller| runs(controller.name))
        .collect();
    if chosen.is_empty() {
        return Err(ChoiceError::Nothing);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(words: &[&str]) -> Result<Vec<&'static str>, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let chosen = chosen(&words).map_err(|error| error.to_string())?;
        Ok(chosen.iter().map(|controller| controller.name).collect())
    }

    #[test]
    fn all_some_and_all_but_some() {
        assert_eq!(names_of(&["*"]).unwrap(), names());
        assert_eq!(
            names_of(&["job-controller", "deployment-controller"]).unwrap(),
            ["deployment-controller", "job-controller"]
        );
        let rest = names_of(&["*", "-job-controller"]).unwrap();
        assert_eq!(rest.len(), names().len() - 1);
        assert!(!rest.contains(&"job-controller"));
        // A word about one controller is more than one about all, wherever it stands; of two about one the first holds.
        assert_eq!(names_of(&["-job-controller", "*"]).unwrap(), rest);
        assert_eq!(names_of(&["-job-controller", "job-controller", "*"]).unwrap(), rest);
    }

    #[test]
    fn names_of_nothing_and_choices_of_none_are_refused() {
        let refused = names_of(&["*", "-frob"]).unwrap_err();
        assert!(
            refused.starts_with("there is no controller \"frob\"; there are deployment-controller, "),
            "{refused}"
        );
        for none in [&[][..], &["-job-controller"]] {
            assert_eq!(names_of(none).unwrap_err(), "no controller is chosen; `*` are all");
        }
    }
}
