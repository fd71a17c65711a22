//! Small inner loops, several turns for one look at the clock.
//!
//! Code that yields at ticks looks at a counter at the head of every loop. The look is two instructions, but beside it stands a
//! call, and around a call the compiler keeps nothing in registers: a loop of five instructions became more than twice as slow. So
//! before a module is compiled, the body of each small innermost loop is written several times into the loop. The guest does
//! the same as before; between two looks lie at most 160 bytes of straight code more.
//!
//! In copies but the last, what went on with the loop goes on to the next copy:
//!
//! ```text
//! loop                  block                 ;; out
//!   body                  loop
//! end                       block body br 2 end   ;; a branch to the loop leaves this block; its end is the loop's end
//!                           body
//!                         end
//!                       end
//! ```
//!
//! Code that counts instructions is left as it is: the count is part of what it promises.

use std::ops::Range;

use anyhow::Context;
use wasmparser::{BinaryReader, FunctionBody, Operator};

use crate::preview1::number;

/// Bytes of all copies of a body. Long enough that a look costs little beside them, short enough that the code of usual programs,
/// where few loops are small, grows by some hundredths.
const COPIES_BYTES: usize = 160;
/// Copies of the smallest bodies: more gain nothing that can be measured.
const MOST_COPIES: usize = 4;

/// Components within components that are looked into. Tools make one or two; a stranger's file may have millions.
const DEEPEST: usize = 8;

/// What changes whenever the same module becomes other code, so that code compiled before is not taken for it.
pub(crate) const VERSION: u32 = 1;

/// Sections of modules and components whose content is looked into.
const CODE: u8 = 10;
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

const BLOCK: u8 = 0x02;
const LOOP: u8 = 0x03;
const IF: u8 = 0x04;
const END: u8 = 0x0b;
const BR: u8 = 0x0c;
const BR_TABLE: u8 = 0x0e;
/// The type of a block without parameters and results.
const EMPTY: u8 = 0x40;

/// A module or component with the small loops of all its modules unrolled; everything else is copied as it stands.
///
/// # Errors
/// When it is not valid.
pub(crate) fn unroll(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    within(wasm, 0)
}

fn within(wasm: &[u8], depth: usize) -> anyhow::Result<Vec<u8>> {
    let (header, mut rest) = wasm.split_at_checked(8).context("it ends in its header")?;
    let is_component = header.get(6) == Some(&1);
    let mut out = Vec::with_capacity(wasm.len() + wasm.len() / 16);
    out.extend_from_slice(header);
    while let Some((&id, sized)) = rest.split_first() {
        let mut reader = BinaryReader::new(sized, 0);
        let size = reader.read_var_u32()? as usize;
        let content = reader.read_bytes(size)?;
        rest = sized
            .get(reader.original_position()..)
            .context("a section ends after the file")?;
        let changed = match (is_component, id) {
            (true, CORE_MODULE | COMPONENT) if depth < DEEPEST => Some(within(content, depth + 1)?),
            (false, CODE) => Some(code(content)?),
            _ => None,
        };
        let content = changed.as_deref().unwrap_or(content);
        out.push(id);
        number(&mut out, content.len());
        out.extend_from_slice(content);
    }
    Ok(out)
}

/// The content of a code section.
fn code(section: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut reader = BinaryReader::new(section, 0);
    let count = reader.read_var_u32()?;
    let mut out = Vec::with_capacity(section.len());
    number(&mut out, count as usize);
    for _ in 0..count {
        let size = reader.read_var_u32()? as usize;
        let body = function(reader.read_bytes(size)?)?;
        number(&mut out, body.len());
        out.extend_from_slice(&body);
    }
    Ok(out)
}

/// One instruction: where its bytes lie, and what matters of it here.
struct Step {
    bytes: Range<usize>,
    kind: Kind,
}

enum Kind {
    /// Begins a block.
    Open {
        is_loop: bool,
        is_empty: bool,
    },
    Close,
    /// Goes to labels, the default last.
    Branch {
        opcode: u8,
        labels: Vec<u32>,
    },
    Plain,
    /// May name labels in a way that is not followed here.
    Unknown,
}

/// A loop that is unrolled: the steps of its body.
struct Inner {
    body: Range<usize>,
    copies: usize,
}

/// The body of a function.
fn function(body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let steps = steps(body)?;
    let inner = inner_loops(&steps);
    if inner.is_empty() {
        return Ok(body.to_vec());
    }
    let mut out = Vec::with_capacity(body.len() + inner.len() * COPIES_BYTES);
    let mut copied = 0;
    for found in inner {
        // The step before the body is the loop itself, which is written anew.
        let begin = steps.get(found.body.start - 1).map_or(0, |step| step.bytes.start);
        out.extend_from_slice(body.get(copied..begin).unwrap_or_default());
        let within = steps.get(found.body.clone()).unwrap_or_default();
        out.extend([BLOCK, EMPTY, LOOP, EMPTY]);
        for _ in 1..found.copies {
            out.extend([BLOCK, EMPTY]);
            copy(&mut out, within, body, 2);
            out.extend([BR, 2, END]);
        }
        copy(&mut out, within, body, 1);
        out.extend([END, END]);
        copied = steps.get(found.body.end).map_or(body.len(), |step| step.bytes.end);
    }
    out.extend_from_slice(body.get(copied..).unwrap_or_default());
    Ok(out)
}

fn steps(body: &[u8]) -> anyhow::Result<Vec<Step>> {
    let mut operators = FunctionBody::new(BinaryReader::new(body, 0)).get_operators_reader()?;
    let mut steps = Vec::new();
    while !operators.eof() {
        let start = operators.original_position();
        let operator = operators.read()?;
        let bytes = start..operators.original_position();
        let opcode = body.get(start).copied().unwrap_or_default();
        let branch = |labels: Vec<u32>| Kind::Branch { opcode, labels };
        let kind = match (opcode, operator) {
            (BLOCK | LOOP | IF, _) => Kind::Open {
                is_loop: opcode == LOOP,
                is_empty: body.get(start + 1) == Some(&EMPTY),
            },
            (END, _) => Kind::Close,
            (_, Operator::Br { relative_depth } | Operator::BrIf { relative_depth }) => branch(vec![relative_depth]),
            (_, Operator::BrTable { targets }) => {
                let mut labels = targets.targets().collect::<Result<Vec<_>, _>>()?;
                labels.push(targets.default());
                branch(labels)
            }
            // Exceptions, references that are null, garbage collection, stack switching.
            (0x06..=0x0a | 0x18 | 0x19 | 0x1f | 0xd5 | 0xd6 | 0xe0..=0xe6 | 0xfb, _) => Kind::Unknown,
            _ => Kind::Plain,
        };
        steps.push(Step { bytes, kind });
    }
    Ok(steps)
}

/// The loops that are worth it, in order.
fn inner_loops(steps: &[Step]) -> Vec<Inner> {
    /// A block that is open: where it begins, and whether it can be one of those.
    struct Open {
        at: usize,
        may: bool,
        goes_on: bool,
    }
    let (mut open, mut found): (Vec<Open>, Vec<Inner>) = (Vec::new(), Vec::new());
    for (at, step) in steps.iter().enumerate() {
        match &step.kind {
            Kind::Open { is_loop, is_empty } => {
                if *is_loop {
                    open.iter_mut().for_each(|outer| outer.may = false);
                }
                open.push(Open {
                    at,
                    may: *is_loop && *is_empty,
                    goes_on: false,
                });
            }
            Kind::Branch { labels, .. } => {
                for label in labels {
                    let target = open.len().checked_sub(1 + *label as usize);
                    if let Some(target) = target.and_then(|target| open.get_mut(target)) {
                        target.goes_on = true;
                    }
                }
            }
            // What cannot be followed spoils all that is around it, and the end of a `try` would be taken for another's.
            Kind::Unknown => return Vec::new(),
            Kind::Close => {
                let Some(closed) = open.pop().filter(|closed| closed.may && closed.goes_on) else {
                    continue;
                };
                let within = closed.at + 1..at;
                let begin = steps.get(within.start).map_or(0, |step| step.bytes.start);
                let length = step.bytes.start.saturating_sub(begin).max(1);
                let copies = (COPIES_BYTES / length).min(MOST_COPIES);
                if copies > 1 {
                    found.push(Inner { body: within, copies });
                }
            }
            Kind::Plain => {}
        }
    }
    found
}

/// Copies the body of a loop to a place that has so many more blocks around it.
fn copy(out: &mut Vec<u8>, steps: &[Step], body: &[u8], deeper: u32) {
    let mut depth = 0u32;
    for step in steps {
        match &step.kind {
            Kind::Open { .. } => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        let Kind::Branch { opcode, labels } = &step.kind else {
            out.extend_from_slice(body.get(step.bytes.clone()).unwrap_or_default());
            continue;
        };
        out.push(*opcode);
        if *opcode == BR_TABLE {
            number(out, labels.len() - 1);
        }
        for label in labels {
            // Labels within the loop, and the loop's own, are as far away as before.
            let label = if *label > depth { label + deeper } else { *label };
            number(out, label as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Config, Engine, Instance, Module, Store};

    fn run(wasm: &[u8], argument: i32) -> (i32, u64) {
        let engine = Engine::new(Config::new().consume_fuel(true)).unwrap();
        let module = Module::new(&engine, wasm).unwrap();
        let mut store = Store::new(&engine, ());
        store.set_fuel(1_000_000).unwrap();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let run = instance.get_typed_func::<i32, i32>(&mut store, "run").unwrap();
        let result = run.call(&mut store, argument).unwrap();
        (result, store.get_fuel().unwrap())
    }

    /// Programs with a loop in every shape, each of an argument.
    const PROGRAMS: [&str; 5] = [
        // The end decides.
        "(loop $l (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 3)) (local.get $n)))
            (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))",
        // The beginning decides, and leaves to further out.
        "(block $out (block $further (loop $l
            (br_if $out (i32.eqz (local.get $n)))
            (br_if $further (i32.eq (local.get $n) (i32.const 77)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (local.set $x (i32.add (local.get $x) (local.get $n)))
            (br $l)))
            (local.set $x (i32.const 5)))",
        // Goes on from within, and ends by a return.
        "(loop $l
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (if (i32.and (local.get $n) (i32.const 1)) (then (local.set $x (i32.add (local.get $x) (i32.const 2))) (br $l)))
            (if (i32.le_s (local.get $n) (i32.const 0)) (then (return (i32.sub (i32.const 0) (local.get $x)))))
            (local.set $x (i32.add (local.get $x) (i32.const 3)))
            (br $l))",
        // One within another, and a table of places to go.
        "(loop $a
            (local.set $m (i32.const 5))
            (loop $b
                (block $two (block $one (block $zero
                    (br_table $zero $one $b $two (i32.and (local.tee $m (i32.sub (local.get $m) (i32.const 1))) (i32.const 7))))
                    (local.set $x (i32.add (local.get $x) (i32.const 1))))
                    (local.set $x (i32.xor (local.get $x) (local.get $n))))
                (br_if $b (i32.gt_s (local.get $m) (i32.const 0))))
            (br_if $a (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0))))",
        // Not gone on with at all.
        "(loop $l (local.set $x (i32.const 9)))",
    ];

    #[test]
    fn what_a_loop_does_stays_the_same() {
        for program in PROGRAMS {
            let wasm = wat::parse_str(format!(
                r#"(module (func (export "run") (param $n i32) (result i32) (local $x i32) (local $m i32) {program} (local.get $x)))"#
            ))
            .unwrap();
            let changed = unroll(&wasm).unwrap();
            wasmparser::Validator::new().validate_all(&changed).unwrap();
            let loops = program.matches("loop").count();
            let gone_on = loops - usize::from(program.contains("i32.const 9"));
            assert_eq!(changed.len() > wasm.len(), gone_on > 0, "{program}");
            for argument in 1..100 {
                let ((before, fuel), (after, left)) = (run(&wasm, argument), run(&changed, argument));
                assert_eq!(before, after, "{program} of {argument}");
                // A loop that ends by its end in another copy has a branch more.
                assert!(fuel.abs_diff(left) <= 100, "{fuel} {left}");
            }
        }
    }

    #[test]
    fn modules_within_components_are_found_and_the_rest_is_copied() {
        let text = "(func (loop $l (br_if $l (i32.const 0)))) (memory 1) (data (i32.const 0) \"text\")";
        let module = wat::parse_str(format!("(module {text})")).unwrap();
        let component = wat::parse_str(format!(
            "(component (core module {text}) (component (core module {text})) (instance $i) (export \"a:b/c\" (instance $i)))"
        ))
        .unwrap();
        let grown = unroll(&module).unwrap().len() - module.len();
        assert!(grown > 0);
        let changed = unroll(&component).unwrap();
        // Some lengths take a byte more.
        assert!((2 * grown..2 * grown + 8).contains(&(changed.len() - component.len())));
        wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
            .validate_all(&changed)
            .unwrap();
        let nothing = wat::parse_str("(module (func (loop)))").unwrap();
        assert_eq!(unroll(&nothing).unwrap(), nothing);
        assert!(unroll(&module[..module.len() - 2]).is_err());
    }

    #[test]
    fn the_guests_of_the_samples_stay_valid_and_grow_little() {
        for name in ["hello", "web", "caller", "worker", "probe"] {
            let wasm = coracle_fixtures::component(name).unwrap();
            let changed = unroll(wasm).unwrap();
            wasmparser::Validator::new().validate_all(&changed).unwrap();
            assert!(
                changed.len() > wasm.len() && changed.len() < wasm.len() * 112 / 100,
                "{name}: {} {}",
                wasm.len(),
                changed.len()
            );
        }
    }
}
