//! One program under both configurations of the engine: code that yields by time and is unrolled, and code that counts
//! instructions. A program cannot tell which of the two it runs under.
//!
//! The program is generated and asks the host for nothing; a frame around it calls its functions and writes to standard output
//! what they return and what its memory holds after each call.

use anyhow::Context;
use coracle_runtime::{Exit, ExitReason, Metering};

use crate::modules::generate;
use crate::{Run, Sandbox, Violation};

/// The exports of the generated program.
const EXPORTS: &str = r#"(module
    (memory (export "m") 1 16)
    (func (export "a") (param i32 i64) (result i64) unreachable)
    (func (export "b") (param f64 f32) (result f64) unreachable)
    (func (export "c") (param i32) (result i32) unreachable))"#;

/// The code of a program that used more stack than there is: that depends on the size of frames, which is the compiler's.
const FAULTED: i32 = 139;

/// The place of the program in [`frame`]: the text format has no modules of given bytes inside of components.
const PLACE: &str = "(module)";

/// A component that calls a program, which has to be put into its place first. The calls' results lie at the start of the frame's
/// memory.
fn frame() -> String {
    let shown = "(call $own (local.get $out) (i32.const 0) (i32.const 24) (i32.const 64))
        (call $its (local.get $out) (i32.const 1024) (i32.const 4096) (i32.const 0))";
    let write = r#"(func (param "self" (borrow $o)) (param "contents" (list u8)) (result (result (error $f))))"#;
    format!(
        r#"(component
        (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
        (alias export $error "error" (type $e))
        (import "wasi:io/streams@0.2.0" (instance $streams
            (alias outer 1 $e (type $e0))
            (export "error" (type $e1 (eq $e0)))
            (export "output-stream" (type $o (sub resource)))
            (type $failure (variant (case "last-operation-failed" (own $e1)) (case "closed")))
            (export "stream-error" (type $f (eq $failure)))
            (export "[method]output-stream.blocking-write-and-flush" {write})))
        (alias export $streams "output-stream" (type $stream))
        (import "wasi:cli/stdout@0.2.0" (instance $stdout
            (alias outer 1 $stream (type $s))
            (export "output-stream" (type $s1 (eq $s)))
            (export "get-stdout" (func (result (own $s1))))))
        (core module)
        (core instance $program (instantiate 0))
        (core module $memory (memory (export "m") 1))
        (core instance $memory (instantiate $memory))
        (alias core export $memory "m" (core memory $here))
        (alias core export $program "m" (core memory $there))
        (core func $get (canon lower (func $stdout "get-stdout")))
        (core func $own (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $here)))
        (core func $its (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $there)))
        (core module $main
            (import "p" "a" (func $a (param i32 i64) (result i64)))
            (import "p" "b" (func $b (param f64 f32) (result f64)))
            (import "p" "c" (func $c (param i32) (result i32)))
            (import "h" "m" (memory 1))
            (import "h" "get" (func $get (result i32)))
            (import "h" "own" (func $own (param i32 i32 i32 i32)))
            (import "h" "its" (func $its (param i32 i32 i32 i32)))
            (func (export "run") (result i32) (local $out i32)
                (local.set $out (call $get))
                (i64.store (i32.const 0) (call $a (i32.const 7) (i64.const -9))) {shown}
                (f64.store (i32.const 8) (call $b (f64.const 2.5) (f32.const -0.1))) {shown}
                (i32.store (i32.const 16) (call $c (i32.const -1))) {shown}
                (i64.store (i32.const 0) (call $a (i32.const 70000) (i64.const 1))) {shown}
                i32.const 0))
        (core instance $main (instantiate $main
            (with "p" (instance $program))
            (with "h" (instance
                (export "m" (memory $here)) (export "get" (func $get))
                (export "own" (func $own)) (export "its" (func $its))))))
        (func $run (result (result)) (canon lift (core func $main "run")))
        (component $shim (import "run" (func $f (result (result)))) (export "run" (func $f)))
        (instance $i (instantiate $shim (with "run" (func $run))))
        (export "wasi:cli/run@0.2.0" (instance $i)))"#
    )
}

/// A program that these bytes make, as a component.
///
/// # Errors
/// When they make none.
pub fn program(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    framed(&generate(bytes, None, wat::parse_str(EXPORTS)?)?)
}

/// The program as a component that shows what it does.
///
/// # Errors
/// When it is no module with the exports that the frame calls.
pub fn framed(program: &[u8]) -> anyhow::Result<Vec<u8>> {
    let frame = wat::parse_str(frame())?;
    // The first section with the number 1 is the place: a core module, with its length before it.
    let place = wat::parse_str(PLACE)?;
    let length = u8::try_from(place.len())?;
    let section: Vec<u8> = [1, length].into_iter().chain(place).collect();
    let at = frame.windows(section.len()).position(|part| part == section);
    let (before, after) = frame.split_at(at.context("the frame has no place for a program")?);
    let mut framed = before.to_vec();
    framed.push(1);
    number(&mut framed, program.len());
    framed.extend(program);
    framed.extend(after.get(section.len()..).unwrap_or_default());
    Ok(framed)
}

/// A number as modules write it: seven bits a byte, the low ones first.
fn number(out: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Runs a program under both configurations. None where their difference would say nothing; else how it went.
///
/// # Errors
/// When they differ, or something else does not hold.
pub fn compare(sandbox: &mut Sandbox, program: &[u8]) -> Result<Option<Run>, Violation> {
    let mut run = |metering| {
        let loaded = sandbox.load(program, metering);
        match loaded {
            Ok(module) => sandbox.run(module, &["program"]).map(Ok),
            Err(error) => Ok(Err(error.to_string())),
        }
    };
    let (time, fuel) = (run(Metering::Time)?, run(Metering::Fuel)?);
    let (time, fuel) = match (time, fuel) {
        (Ok(time), Ok(fuel)) => (time, fuel),
        (Err(time), Err(fuel)) if time == fuel => return Ok(None),
        (time, fuel) => {
            return Err(Violation::told(format!(
                "one configuration takes it: {time:?}, {fuel:?}"
            )));
        }
    };
    let beyond = |exit: &Exit| exit.code == FAULTED && exit.message.as_ref().is_some_and(|m| m.contains("stack"));
    if beyond(&time.exit) || beyond(&fuel.exit) || time.ended || fuel.ended {
        return Ok(None);
    }
    // Who comes to the limit of instructions wrote only the beginning of what it writes without one, and then is told why it ends.
    let why = format!("{}\n", fuel.exit.message.as_deref().unwrap_or_default());
    let wrote = fuel.output.strip_suffix(why.as_bytes()).unwrap_or(&fuel.output);
    if fuel.exit.reason == ExitReason::FuelExhausted && time.output.starts_with(wrote) {
        return Ok(None);
    }
    match time == fuel {
        true => Ok(Some(time)),
        false => Err(Violation::told(format!(
            "by time {}, by fuel {}",
            told(&time),
            told(&fuel)
        ))),
    }
}

fn told(run: &Run) -> String {
    format!(
        "{:?} after {} bytes: {:?}",
        run.exit,
        run.output.len(),
        run.output.get(..64)
    )
}
