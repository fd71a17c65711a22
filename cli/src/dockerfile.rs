//! A Dockerfile, as far as an image without an operating system has use for it.
//!
//! `FROM scratch`, COPY, ENV, ENTRYPOINT, CMD, EXPOSE, WORKDIR and LABEL. Anything else is refused with its line: an image that
//! silently lacks a step is worse than none. Reading is pure; [`crate::context`] looks at files.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use coracle_images::ImageConfig;

/// What a Dockerfile says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The defaults for containers.
    pub config: ImageConfig,
    /// What is copied, in order.
    pub copies: Vec<Copy>,
}

/// One COPY.
#[derive(Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where it stands.
    pub line: usize,
    /// Paths in the context; `*` and `?` stand for parts of names.
    pub sources: Vec<String>,
    /// An absolute path in the image; with a slash at its end it is a directory.
    pub target: String,
}

/// Reads a Dockerfile.
///
/// # Errors
/// With the line that is wrong, or that asks for something that there is not.
pub fn parse(text: &str) -> anyhow::Result<Dockerfile> {
    let mut file = Dockerfile::default();
    let mut started = false;
    for (line, instruction) in instructions(text) {
        file.add(&mut started, line, &instruction)
            .with_context(|| format!("line {line}"))?;
    }
    ensure!(started, "there is no FROM; begin with `FROM scratch`");
    Ok(file)
}

/// The instructions with the line that each begins at. A backslash at the end of a line joins the next one to it; comments
/// may stand between the two.
fn instructions(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (content, goes_on) = match line.strip_suffix('\\') {
            Some(content) => (content.trim_end(), true),
            None => (line, false),
        };
        match found.last_mut().filter(|_| open) {
            Some((_, before)) => {
                before.push(' ');
                before.push_str(content);
            }
            None => found.push((index + 1, content.to_owned())),
        }
        open = goes_on;
    }
    found
}

impl Dockerfile {
    fn add(&mut self, started: &mut bool, line: usize, instruction: &str) -> anyhow::Result<()> {
        let (word, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
        let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
        ensure!(*started || word == "FROM", "{word} stands before `FROM scratch`");
        match word.as_str() {
            "FROM" => {
                ensure!(
                    !*started,
                    "a second FROM: build in one step, and copy what was compiled before"
                );
                let mut words = rest.split_whitespace();
                let base = words.next().unwrap_or_default();
                ensure!(
                    base == "scratch",
                    "FROM {base}: only `FROM scratch` is possible, a container here has no operating system under it"
                );
                *started = true;
            }
            "COPY" => self.copy(line, rest)?,
            "ENV" => {
                for (name, value) in self.pairs(rest)? {
                    self.config.env.retain(|entry| entry.split('=').next() != Some(&name));
                    self.config.env.push(format!("{name}={value}"));
                }
            }
            "LABEL" => {
                let labels = self.pairs(rest)?;
                self.config.labels.extend(labels);
            }
            "ENTRYPOINT" => self.config.entrypoint = list("ENTRYPOINT", rest)?,
            "CMD" => self.config.cmd = list("CMD", rest)?,
            "EXPOSE" => {
                for port in self.words(rest)? {
                    self.config.exposed_ports.insert(exposed(&port)?, serde_json::json!({}));
                }
            }
            "WORKDIR" => {
                let words = self.words(rest)?;
                let [dir] = words.as_slice() else {
                    bail!("WORKDIR has one directory");
                };
                self.config.working_dir = self.absolute(dir);
            }
            "RUN" => bail!("RUN: nothing can be run while an image is built; compile the program before, and COPY it"),
            "ADD" => bail!("ADD: use COPY, with files that are in the directory"),
            _ => bail!(
                "{word} is not known here; FROM scratch, COPY, ENV, ENTRYPOINT, CMD, EXPOSE, WORKDIR and LABEL are"
            ),
        }
        Ok(())
    }

    fn copy(&mut self, line: usize, rest: &str) -> anyhow::Result<()> {
        if let Some(flag) = rest.split_whitespace().next().filter(|word| word.starts_with("--")) {
            bail!("COPY {flag}: COPY has no flags here");
        }
        let mut words = match rest.starts_with('[') {
            true => {
                let words = list("COPY", rest)?;
                words
                    .iter()
                    .map(|word| self.expand(word))
                    .collect::<anyhow::Result<_>>()?
            }
            false => self.words(rest)?,
        };
        let target = words.pop().context("COPY has one or more sources, and a target")?;
        ensure!(!words.is_empty(), "COPY has one or more sources, and a target");
        let several = words.len() > 1;
        ensure!(
            !several || target.ends_with('/') || target == ".",
            "COPY of several sources needs a directory for a target, with a slash at its end"
        );
        self.copies.push(Copy {
            line,
            sources: words,
            target: self.absolute(&target),
        });
        Ok(())
    }

    /// A path in the image, with the slash at its end if it had one.
    fn absolute(&self, path: &str) -> String {
        let slash = path.ends_with('/') || matches!(path, "." | "..") || path.ends_with("/.");
        let whole = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", self.config.working_dir),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let end = if slash && !parts.is_empty() { "/" } else { "" };
        format!("/{}{end}", parts.join("/"))
    }

    /// `NAME=value ...`, or the older `NAME value`.
    fn pairs(&self, rest: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let first = rest
            .split_whitespace()
            .next()
            .context("a name and a value are missing")?;
        if !first.contains('=') {
            let value = rest.get(first.len()..).unwrap_or_default().trim();
            ensure!(!value.is_empty(), "{first} has no value; write {first}=value");
            return Ok([(first.to_owned(), self.expand(value)?)].into());
        }
        let pair = |word: String| {
            let (name, value) = word.split_once('=').with_context(|| format!("{word} has no value"))?;
            ensure!(!name.is_empty(), "{word} has no name");
            Ok((name.to_owned(), value.to_owned()))
        };
        self.words(rest)?.into_iter().map(pair).collect()
    }

    /// Words as a shell splits them: quotes, backslashes, and the variables that ENV has set.
    fn words(&self, text: &str) -> anyhow::Result<Vec<String>> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        let mut rest = text.chars();
        while let Some(letter) = rest.next() {
            match (letter, quote) {
                (letter, Some(open)) if letter == open => quote = None,
                ('\'' | '"', None) => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                ('\\', None | Some('"')) => {
                    let next = rest.next().context("a backslash stands at the end")?;
                    word.get_or_insert_default().push(next);
                }
                ('$', None | Some('"')) => {
                    let (value, left) = self.variable(rest.as_str())?;
                    word.get_or_insert_default().push_str(&value);
                    rest = left.chars();
                }
                (letter, None) if letter.is_whitespace() => words.extend(word.take()),
                (letter, _) => word.get_or_insert_default().push(letter),
            }
        }
        ensure!(quote.is_none(), "a quote is not closed");
        words.extend(word);
        Ok(words)
    }

    /// A text whose spaces stay.
    fn expand(&self, text: &str) -> anyhow::Result<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (value, left) = self.variable(after)?;
            out.push_str(&value);
            rest = left;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The value of the variable whose name begins here, and what follows it.
    fn variable<'a>(&self, text: &'a str) -> anyhow::Result<(String, &'a str)> {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let (inside, left, braced) = match text.strip_prefix('{') {
            Some(braced) => {
                let (inside, left) = braced.split_once('}').context("a brace is not closed")?;
                (inside, left, true)
            }
            None => {
                let end = text.find(|letter| !is_name(letter)).unwrap_or(text.len());
                let (inside, left) = text.split_at(end);
                (inside, left, false)
            }
        };
        if inside.is_empty() && !braced {
            return Ok(("$".to_owned(), left));
        }
        let end = inside.find(|letter| !is_name(letter)).unwrap_or(inside.len());
        let (name, modifier) = inside.split_at(end);
        let set = self
            .config
            .env_pairs()
            .find(|(set, _)| *set == name)
            .map(|(_, value)| value);
        let set = set.filter(|value| !value.is_empty());
        let value = match modifier.get(..2) {
            _ if modifier.is_empty() => set.unwrap_or_default().to_owned(),
            Some(":-") => set.or(modifier.get(2..)).unwrap_or_default().to_owned(),
            Some(":+") => set.and(modifier.get(2..)).unwrap_or_default().to_owned(),
            _ => bail!("${{{inside}}} is not understood; there are ${{NAME}}, ${{NAME:-default}} and ${{NAME:+other}}"),
        };
        Ok((value, left))
    }
}

/// A list in JSON. The other form is one command for a shell, and there is none.
fn list(word: &str, rest: &str) -> anyhow::Result<Vec<String>> {
    serde_json::from_str(rest).with_context(|| {
        format!("{word} {rest}: a list in JSON is needed, as in {word} [\"/app.wasm\"]; an image has no shell for the other form")
    })
}

fn exposed(text: &str) -> anyhow::Result<String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let known = matches!(protocol, "tcp" | "udp");
    ensure!(
        known && port.parse::<u16>().is_ok_and(|port| port > 0),
        "{text} is no port; write 8080 or 53/udp"
    );
    Ok(format!("{port}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_that_there_is() {
        let file = parse(
            r#"# syntax=docker/dockerfile:1
FROM scratch AS app
env GREETING="good morning" NAME=world
ENV OLD of two words
LABEL maintainer=me org.example.note='a $NAME note'
WORKDIR /srv
WORKDIR site
COPY target/app.wasm \
     # the program
     /app.wasm
COPY a.txt b*.txt ./
COPY ["with space.txt", "/etc/${NAME}/${MISSING:-none}/"]
EXPOSE 8080 53/udp
ENTRYPOINT ["/app.wasm", "--dir", "$NAME"]
CMD ["serve"]
"#,
        )
        .unwrap();
        let config = &file.config;
        assert_eq!(config.env, ["GREETING=good morning", "NAME=world", "OLD=of two words"]);
        assert_eq!(config.labels["org.example.note"], "a $NAME note");
        assert_eq!(config.working_dir, "/srv/site");
        assert_eq!(config.entrypoint, ["/app.wasm", "--dir", "$NAME"]);
        assert_eq!(config.cmd, ["serve"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "8080/tcp"]);
        let copies: Vec<_> = file
            .copies
            .iter()
            .map(|copy| (copy.line, copy.sources.join("|"), copy.target.as_str()))
            .collect();
        assert_eq!(
            copies,
            [
                (8, "target/app.wasm".to_owned(), "/app.wasm"),
                (11, "a.txt|b*.txt".to_owned(), "/srv/site/"),
                (12, "with space.txt".to_owned(), "/etc/world/none/"),
            ]
        );
    }

    #[test]
    fn what_there_is_not_is_refused_with_its_line() {
        for (text, words) in [
            ("", "there is no FROM"),
            ("FROM alpine:3", "line 1: FROM alpine:3: only `FROM scratch`"),
            ("COPY a b", "line 1: COPY stands before"),
            ("FROM scratch\n\nRUN make", "line 3: RUN"),
            ("FROM scratch\nADD x /", "line 2: ADD"),
            ("FROM scratch\nUSER 1000", "line 2: USER is not known"),
            ("FROM scratch\nCOPY --from=build /a /b", "line 2: COPY --from=build"),
            ("FROM scratch\nCOPY a b c", "needs a directory"),
            ("FROM scratch\nCOPY a", "one or more sources"),
            ("FROM scratch\nENTRYPOINT /app.wasm", "a list in JSON is needed"),
            ("FROM scratch\nEXPOSE http", "http is no port"),
            ("FROM scratch\nENV A=\"b", "a quote is not closed"),
            ("FROM scratch\nENV A=${B:?no}", "is not understood"),
            ("FROM scratch\nFROM scratch", "a second FROM"),
        ] {
            let refused = format!("{:#}", parse(text).unwrap_err());
            assert!(refused.contains(words), "{text:?}: {refused}");
        }
    }

    #[test]
    fn variables_are_those_set_before() {
        let file = parse("FROM scratch\nENV A=1\nENV B=$A-${A}${C:-x}${A:+y} C=\\$A\nWORKDIR /$A/../$B").unwrap();
        assert_eq!(file.config.env, ["A=1", "B=1-1xy", "C=$A"]);
        assert_eq!(file.config.working_dir, "/1-1xy");
    }
}
