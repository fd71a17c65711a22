//! The tokens of a script: words, operators, line breaks with the here-documents that follow them.

use super::parser::{Parsed, Parser, SyntaxError, Token, unquoted};
use super::tree::{Part, Word};

/// The operators, the longer before those that they begin with.
const OPERATORS: [&str; 18] = [
    "<<-", "&&", "||", ";;", "<<", ">>", "<&", ">&", "<>", ">|", "&", "|", ";", "<", ">", "(", ")", "\n",
];

impl<'a> Parser<'a> {
    pub(super) fn peek(&mut self) -> Parsed<&Token> {
        if self.ahead.is_none() {
            self.ahead = Some(self.token()?);
        }
        match &self.ahead {
            Some(token) => Ok(token),
            None => Err(SyntaxError::Incomplete),
        }
    }

    pub(super) fn next(&mut self) -> Parsed<Token> {
        self.peek()?;
        match self.ahead.take() {
            Some(token) => {
                if matches!(token, Token::Operator("\n")) {
                    self.read_documents()?;
                }
                Ok(token)
            }
            None => Err(SyntaxError::Incomplete),
        }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn token(&mut self) -> Parsed<Token> {
        loop {
            let rest = self.rest();
            if rest.starts_with("\\\n") {
                self.at += 2;
                self.line += 1;
            } else if rest.starts_with([' ', '\t', '\r']) {
                self.at += 1;
            } else if rest.starts_with('#') {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else {
                break;
            }
        }
        let rest = self.rest();
        if rest.is_empty() {
            // A document whose text never began is empty, as dash has it.
            for document in std::mem::take(&mut self.documents) {
                let _ = document.body.set(Default::default());
            }
            return Ok(Token::End);
        }
        if let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
            self.at += operator.len();
            if *operator == "\n" {
                self.line += 1;
            }
            return Ok(Token::Operator(operator));
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0
            && rest[digits..].starts_with(['<', '>'])
            && let Ok(number) = rest[..digits].parse()
        {
            self.at += digits;
            return Ok(Token::Number(number));
        }
        let begin = self.at;
        let parts = self.word_parts()?;
        let raw = self.text[begin..self.at].to_owned();
        Ok(Token::Word(Word { raw, parts }))
    }

    /// Takes in the documents whose text begins here.
    fn read_documents(&mut self) -> Parsed<()> {
        for document in std::mem::take(&mut self.documents) {
            let end = unquoted(&document.delimiter);
            let mut body = String::new();
            loop {
                let rest = self.rest();
                if rest.is_empty() {
                    break;
                }
                let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
                let mut line = &rest[..length];
                self.at += length;
                self.line += 1;
                if document.strip {
                    line = line.trim_start_matches('\t');
                }
                let continued = !document.literal && body.ends_with("\\\n");
                if line.trim_end_matches('\n') == end && !continued {
                    break;
                }
                body += line;
                if rest.len() == length && !line.ends_with('\n') {
                    break;
                }
            }
            let parts = match document.literal {
                true => vec![Part::Quoted(body.clone())],
                false => Parser::from_line(&body, self.line).document_parts()?,
            };
            let _ = document.body.set((body, parts));
        }
        Ok(())
    }

    /// Whether a document's text is still to come.
    pub fn waits_for_document(&self) -> bool {
        !self.documents.is_empty()
    }
}
