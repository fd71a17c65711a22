//! From words to an expression. Macros are recognised here.

use crate::ast::{Binary, Each, Expr, Fault, Node, Optional, Unary};
use crate::lex::{self, Token};
use crate::value::Val;

/// How deep brackets and signs may nest while they are read: deeper ones are nobody's.
const DEPTH_LIMIT: usize = 120;
/// How many parts of an expression may lie within each other. A chain of operators nests too, so this is how many
/// conditions a rule can join without brackets; checking and evaluating need a part of the stack for each.
const TREE_LIMIT: usize = 220;

const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "in",
];

/// Parses a whole expression.
pub(crate) fn parse(source: &str) -> Result<Expr, Fault> {
    let tokens = lex::tokens(source)?;
    let mut parser = Parser {
        tokens,
        next: 0,
        depth: 0,
    };
    let expr = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(expr),
        other => Err(parser.wrong(&format!("extraneous input {} expecting <EOF>", shown(other)))),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("'{name}'"),
        Token::Sign(sign) => format!("'{sign}'"),
        Token::Int(number) => format!("'{number}'"),
        Token::Uint(number) => format!("'{number}u'"),
        Token::Double(number) => format!("'{number}'"),
        Token::Text(text) => format!("{text:?}"),
        Token::Bytes(_) => "bytes".to_owned(),
        Token::End => "'<EOF>'".to_owned(),
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens
            .get(self.next)
            .or(self.tokens.last())
            .map_or(0, |(at, _)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.eat(sign) {
            return Ok(());
        }
        Err(self.wrong(&format!("mismatched input {} expecting '{sign}'", shown(self.peek()))))
    }

    fn wrong(&self, words: &str) -> Fault {
        Fault {
            at: self.at(),
            message: format!("Syntax error: {words}"),
        }
    }

    fn expression(&mut self) -> Result<Expr, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(self.wrong(&format!("expression recursion limit exceeded: {DEPTH_LIMIT}")));
        }
        let at = self.at();
        let when = self.binary(0)?;
        let expr = if self.eat("?") {
            let yes = self.binary(0)?;
            self.expect(":")?;
            let no = self.expression()?;
            Expr::new(
                at,
                Node::If {
                    when: Box::new(when),
                    yes: Box::new(yes),
                    no: Box::new(no),
                },
            )
        } else {
            when
        };
        self.not_too_deep(&expr)?;
        self.depth -= 1;
        Ok(expr)
    }

    fn not_too_deep(&self, expr: &Expr) -> Result<(), Fault> {
        match expr.depth > TREE_LIMIT {
            true => Err(self.wrong(&format!("expression recursion limit exceeded: {TREE_LIMIT}"))),
            false => Ok(()),
        }
    }

    fn operator(&self) -> Option<(u8, Binary)> {
        Some(match self.peek() {
            Token::Sign("||") => (1, Binary::Or),
            Token::Sign("&&") => (2, Binary::And),
            Token::Sign("==") => (3, Binary::Equal),
            Token::Sign("!=") => (3, Binary::NotEqual),
            Token::Sign("<") => (3, Binary::Less),
            Token::Sign("<=") => (3, Binary::LessOrEqual),
            Token::Sign(">") => (3, Binary::Greater),
            Token::Sign(">=") => (3, Binary::GreaterOrEqual),
            Token::Name(name) if name == "in" => (3, Binary::In),
            Token::Sign("+") => (4, Binary::Add),
            Token::Sign("-") => (4, Binary::Subtract),
            Token::Sign("*") => (5, Binary::Multiply),
            Token::Sign("/") => (5, Binary::Divide),
            Token::Sign("%") => (5, Binary::Modulo),
            _ => return None,
        })
    }

    fn binary(&mut self, least: u8) -> Result<Expr, Fault> {
        let mut left = self.unary()?;
        while let Some((strength, operator)) = self.operator().filter(|(strength, _)| *strength > least) {
            let at = self.at();
            self.next += 1;
            let right = self.binary(strength)?;
            left = Expr::new(
                at,
                Node::Binary {
                    operator,
                    left: Box::new(left),
                    right: Box::new(right),
                },
            );
            self.not_too_deep(&left)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        let operator = match self.peek() {
            Token::Sign("!") => Unary::Not,
            Token::Sign("-") => Unary::Negate,
            _ => return self.postfix(),
        };
        self.next += 1;
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(self.wrong(&format!("expression recursion limit exceeded: {DEPTH_LIMIT}")));
        }
        let literal = match (operator, self.peek()) {
            (Unary::Negate, Token::Int(number)) => Some(Val::Int(-number)),
            (Unary::Negate, Token::Uint(number)) if *number == 1 << 63 => Some(Val::Int(i64::MIN)),
            (Unary::Negate, Token::Double(number)) => Some(Val::Double(-number)),
            _ => None,
        };
        let expr = match literal {
            Some(value) => {
                self.next += 1;
                let literal = Expr::new(at, Node::Literal(value));
                self.members(literal)?
            }
            None => Expr::new(
                at,
                Node::Unary {
                    operator,
                    of: Box::new(self.unary()?),
                },
            ),
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn postfix(&mut self) -> Result<Expr, Fault> {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut of: Expr) -> Result<Expr, Fault> {
        loop {
            let at = self.at();
            if self.eat(".") {
                let optional = self.eat("?");
                let field = self.name()?;
                of = if !optional && self.is("(") {
                    let arguments = self.arguments()?;
                    call(at, field, Some(of), arguments)?
                } else {
                    Expr::new(
                        at,
                        Node::Select {
                            of: Box::new(of),
                            field,
                            optional,
                        },
                    )
                };
            } else if self.eat("[") {
                let optional = self.eat("?");
                let key = Box::new(self.expression()?);
                self.expect("]")?;
                of = Expr::new(
                    at,
                    Node::Index {
                        of: Box::new(of),
                        key,
                        optional,
                    },
                );
            } else if self.is("{")
                && let Some(name) = type_name(&of)
            {
                let fields = self.message()?;
                of = Expr::new(at, Node::Message { name, fields });
            } else {
                return Ok(of);
            }
            self.not_too_deep(&of)?;
        }
    }

    fn name(&mut self) -> Result<String, Fault> {
        match self.peek() {
            Token::Name(name) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            other => Err(self.wrong(&format!("no viable alternative at input {}", shown(other)))),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Fault> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.is(")") {
            arguments.push(self.expression()?);
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(arguments)
    }

    fn message(&mut self) -> Result<Vec<(String, Expr, bool)>, Fault> {
        self.expect("{")?;
        let mut fields = Vec::new();
        while !self.is("}") {
            let optional = self.eat("?");
            let name = self.name()?;
            self.expect(":")?;
            fields.push((name, self.expression()?, optional));
            if !self.eat(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(fields)
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        let literal = |value: Val<'static>| Ok(Expr::new(at, Node::Literal(value)));
        match self.take() {
            Token::Int(number) => literal(Val::Int(number)),
            Token::Uint(number) => literal(Val::Uint(number)),
            Token::Double(number) => literal(Val::Double(number)),
            Token::Text(text) => literal(Val::text(text)),
            Token::Bytes(bytes) => literal(Val::Bytes(bytes.into())),
            Token::Sign(".") => {
                let name = self.name()?;
                Ok(Expr::new(at, Node::Name(name)))
            }
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.list(at),
            Token::Sign("{") => self.map(at),
            Token::Name(name) => match name.as_str() {
                "true" => literal(Val::Bool(true)),
                "false" => literal(Val::Bool(false)),
                "null" => literal(Val::Null),
                name if RESERVED.contains(&name) => Err(Fault {
                    at,
                    message: format!("reserved identifier: {name}"),
                }),
                _ if self.is("(") => {
                    let arguments = self.arguments()?;
                    call(at, name, None, arguments)
                }
                _ => Ok(Expr::new(at, Node::Name(name))),
            },
            other => {
                self.next -= 1;
                Err(self.wrong(&format!("mismatched input {} expecting an expression", shown(&other))))
            }
        }
    }

    fn list(&mut self, at: usize) -> Result<Expr, Fault> {
        let mut items = Vec::new();
        while !self.is("]") {
            let optional = self.eat("?");
            items.push((self.expression()?, optional));
            if !self.eat(",") {
                break;
            }
        }
        self.expect("]")?;
        Ok(Expr::new(at, Node::List(items)))
    }

    fn map(&mut self, at: usize) -> Result<Expr, Fault> {
        let mut entries = Vec::new();
        while !self.is("}") {
            let optional = self.eat("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.eat(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(Expr::new(at, Node::Map(entries)))
    }
}

/// The dotted name that an expression spells when a message could follow it: its last part begins with a capital.
fn type_name(of: &Expr) -> Option<String> {
    let capital = |name: &str| name.starts_with(|char: char| char.is_ascii_uppercase());
    match &of.node {
        Node::Name(name) if capital(name) => Some(name.clone()),
        Node::Select {
            of,
            field,
            optional: false,
        } => match &of.node {
            Node::Name(_) | Node::Select { .. } => Some(format!("{}.{field}", dotted(of)?)),
            _ => None,
        },
        _ => None,
    }
}

/// The dotted name that an expression spells.
pub(crate) fn dotted(of: &Expr) -> Option<String> {
    match &of.node {
        Node::Name(name) => Some(name.clone()),
        Node::Select {
            of,
            field,
            optional: false,
        } => Some(format!("{}.{field}", dotted(of)?)),
        _ => None,
    }
}

fn variable(expr: &Expr) -> Result<String, Fault> {
    match &expr.node {
        Node::Name(name) => Ok(name.clone()),
        _ => Err(Fault {
            at: expr.at,
            message: "argument must be a simple name".to_owned(),
        }),
    }
}

/// A call, or what a macro means.
fn call(at: usize, name: String, target: Option<Expr>, mut arguments: Vec<Expr>) -> Result<Expr, Fault> {
    let made = |node: Node| Ok(Expr::new(at, node));
    let Some(of) = target else {
        if name == "has" && arguments.len() == 1 {
            return match arguments.remove(0).node {
                Node::Select {
                    of,
                    field,
                    optional: false,
                } => made(Node::Has { of, field }),
                _ => Err(Fault {
                    at,
                    message: "invalid argument to has() macro".to_owned(),
                }),
            };
        }
        return made(Node::Call {
            name,
            target: None,
            arguments,
        });
    };
    let bound = matches!(&of.node, Node::Name(space) if space == "cel");
    if bound && name == "bind" && arguments.len() == 3 {
        let (body, value, name) = (
            arguments.remove(2),
            arguments.remove(1),
            variable(&arguments.remove(0))?,
        );
        return made(Node::Bind {
            name,
            value: Box::new(value),
            body: Box::new(body),
            optional: None,
        });
    }
    let optional = match name.as_str() {
        "optMap" => Some(Optional::Value),
        "optFlatMap" => Some(Optional::Flat),
        _ => None,
    };
    if optional.is_some() && arguments.len() == 2 {
        let (body, name) = (arguments.remove(1), variable(&arguments.remove(0))?);
        return made(Node::Bind {
            name,
            value: Box::new(of),
            body: Box::new(body),
            optional,
        });
    }
    let each = match (name.as_str(), arguments.len()) {
        ("all", 2 | 3) => Each::All,
        ("exists", 2 | 3) => Each::Exists,
        ("exists_one", 2) | ("existsOne", 2 | 3) => Each::ExistsOne,
        ("map", 2 | 3) => Each::Map,
        ("filter", 2) => Each::Filter,
        ("transformList", 3 | 4) => Each::TransformList,
        ("transformMap", 3 | 4) => Each::TransformMap,
        ("transformMapEntry", 3 | 4) => Each::TransformMapEntry,
        _ => {
            return made(Node::Call {
                name,
                target: Some(Box::new(of)),
                arguments,
            });
        }
    };
    let transforms = matches!(each, Each::TransformList | Each::TransformMap | Each::TransformMapEntry);
    let pair = transforms || (each != Each::Map && arguments.len() == 3);
    let mut arguments = arguments.into_iter();
    let mut next = || {
        arguments.next().ok_or(Fault {
            at,
            message: "a macro lacks an argument".to_owned(),
        })
    };
    let first = variable(&next()?)?;
    let second = if pair { Some(variable(&next()?)?) } else { None };
    let one = next()?;
    // With one more argument, the first of the two picks the items.
    let (filter, body) = match next() {
        Ok(body) => (Some(Box::new(one)), body),
        Err(_) => (None, one),
    };
    made(Node::Each {
        each,
        of: Box::new(of),
        first,
        second,
        filter,
        body: Box::new(body),
    })
}
