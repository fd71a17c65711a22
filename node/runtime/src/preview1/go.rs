//! Room for the adapter in a Go program.
//!
//! The adapter keeps 128 KiB of its own in the memory of the program. It asks the program's `cabi_realloc` for them, or, where there
//! is none, takes them by `memory.grow`. Go's runtime grows its memory as a Unix program moves its break: what lies beyond is what it
//! takes next, whoever else may have grown the memory meanwhile, and so it writes over what the adapter keeps. A Go program is
//! therefore given a `cabi_realloc` that moves the break itself, as Go's own `sbrk` would. What the adapter takes before the runtime
//! has a break lies at the end of the memory: where the runtime then asks how large the memory is, its break is put at that end.
//!
//! Where the break is kept, the code of `sbrk` says, which is found as the one function that calls the one function with the one
//! `memory.grow` of the program. A program in which that is not so stays as it is.

use anyhow::Context;
use wasm_encoder::{BlockType, Function, MemArg, ValType};
use wasmparser::{BinaryReader, FunctionBody, Operator, Parser, Payload, TypeRef};

use super::number;

/// The section that Go's linker begins a program with.
const BUILD_ID: &str = "go:buildid";
const REALLOC: &str = "cabi_realloc";

/// The unit in which Go asks for memory, and that of WebAssembly.
const PAGE: i64 = 1 << 16;

/// Instructions, as they stand in code.
const CALL: u8 = 0x10;
const MEMORY_SIZE: [u8; 2] = [0x3f, 0x00];
const MEMORY_GROW: [u8; 2] = [0x40, 0x00];

/// What an export of a function is marked with.
const FUNCTION: u8 = 0;

const TYPE_SECTION: u8 = 1;
const FUNCTION_SECTION: u8 = 3;
const EXPORT_SECTION: u8 = 7;
const CODE_SECTION: u8 = 10;

/// The addresses of two numbers: up to where the runtime uses its memory, and up to where it has it. They are set from nothing, the
/// first before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Break {
    used: u32,
    had: u32,
}

/// A function, and where in its code the instruction is by which it was found.
struct Found<'a> {
    index: usize,
    code: Vec<Operator<'a>>,
    at: usize,
}

/// The parts of a program that matter here.
#[derive(Default)]
struct Program<'a> {
    is_go: bool,
    allocates: bool,
    types: usize,
    imported_functions: usize,
    bodies: Vec<FunctionBody<'a>>,
}

/// The module with a `cabi_realloc`, where it is Go's and has none.
pub(super) fn with_room(module: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let program = read(module)?;
    if !program.is_go || program.allocates {
        return Ok(None);
    }
    let size = program.only_one(&MEMORY_SIZE, |operator| matches!(operator, Operator::MemorySize { .. }))?;
    match (program.find_break()?, size) {
        (Some(place), Some(size)) => program.extended(module, place, &size).map(Some),
        _ => Ok(None),
    }
}

fn read(module: &[u8]) -> anyhow::Result<Program<'_>> {
    let mut program = Program::default();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::CustomSection(section) => program.is_go |= section.name() == BUILD_ID,
            Payload::TypeSection(groups) => {
                for group in groups {
                    program.types += group?.types().len();
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    program.imported_functions += usize::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    program.allocates |= export?.name == REALLOC;
                }
            }
            // Go's linker writes its section first; no other program is looked into.
            Payload::CodeSectionEntry(body) if program.is_go => program.bodies.push(body),
            _ => {}
        }
    }
    Ok(program)
}

impl Program<'_> {
    fn find_break(&self) -> anyhow::Result<Option<Break>> {
        let grows = |operator: &Operator<'_>| matches!(operator, Operator::MemoryGrow { .. });
        let Some(grow) = self.only_one(&MEMORY_GROW, grows)? else {
            return Ok(None);
        };
        let grow = self.imported_functions + grow.index;
        let mut call = vec![CALL];
        number(&mut call, grow);
        let calls = |operator: &Operator<'_>| matches!(operator, Operator::Call { function_index } if *function_index as usize == grow);
        let sbrk = self.only_one(&call, calls)?;
        Ok(sbrk.and_then(|sbrk| break_in(&sbrk.code)))
    }

    /// The one function of the program's own that holds an instruction once. It is written so, which few functions hold even by
    /// chance: only those are looked into.
    fn only_one(&self, written: &[u8], is: impl Fn(&Operator<'_>) -> bool) -> anyhow::Result<Option<Found<'_>>> {
        let mut found = None;
        for (index, body) in self.bodies.iter().enumerate() {
            if !body.as_bytes().windows(written.len()).any(|bytes| bytes == written) {
                continue;
            }
            let mut code = Vec::new();
            let mut places = Vec::new();
            for operator in body.get_operators_reader()?.into_iter_with_offsets() {
                let (operator, offset) = operator?;
                if is(&operator) {
                    places.push(offset - body.range().start);
                }
                code.push(operator);
            }
            match (places.as_slice(), &found) {
                ([], _) => {}
                ([at], None) => found = Some(Found { index, code, at: *at }),
                _ => return Ok(None),
            }
        }
        Ok(found)
    }

    /// The module with one function more, which has a type of its own at the end of the types, and with the break put at the end of
    /// the memory where its size is asked for.
    fn extended(&self, module: &[u8], place: Break, size: &Found<'_>) -> anyhow::Result<Vec<u8>> {
        let mut out = module.get(..8).context("the module ends in its header")?.to_vec();
        for payload in Parser::new(0).parse_all(module) {
            let Some((id, range)) = payload?.as_section() else {
                continue;
            };
            let content = module.get(range).context("a section ends after the module")?;
            let content = match id {
                // A function of four 32-bit numbers that gives one.
                TYPE_SECTION => with_one_more(content, &[0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f])?,
                FUNCTION_SECTION => with_one_more(content, &numbers(&[self.types]))?,
                EXPORT_SECTION => {
                    let mut export = numbers(&[REALLOC.len()]);
                    export.extend_from_slice(REALLOC.as_bytes());
                    export.push(FUNCTION);
                    number(&mut export, self.imported_functions + self.bodies.len());
                    with_one_more(content, &export)?
                }
                CODE_SECTION => self.code(place, size)?,
                _ => content.to_vec(),
            };
            out.push(id);
            number(&mut out, content.len());
            out.extend(content);
        }
        Ok(out)
    }

    fn code(&self, place: Break, size: &Found<'_>) -> anyhow::Result<Vec<u8>> {
        let mut out = numbers(&[self.bodies.len() + 1]);
        let mut add = |body: &[u8]| {
            number(&mut out, body.len());
            out.extend_from_slice(body);
        };
        for (index, body) in self.bodies.iter().enumerate() {
            let body = body.as_bytes();
            if index != size.index {
                add(body);
                continue;
            }
            let (before, after) = body
                .split_at_checked(size.at)
                .context("an instruction after its function")?;
            add(&[before, &put_break_at_end(place), after].concat());
        }
        add(&realloc(place));
        Ok(out)
    }
}

/// The first two numbers that `sbrk` reads, if they stand side by side as the two of the runtime do.
fn break_in(sbrk: &[Operator<'_>]) -> Option<Break> {
    let mut reads = sbrk.windows(3).filter_map(|code| match code {
        [
            Operator::I64Const { value },
            Operator::I32WrapI64,
            Operator::I64Load { memarg },
        ] => u32::try_from(*value)
            .ok()?
            .checked_add(u32::try_from(memarg.offset).ok()?),
        _ => None,
    });
    let (used, had) = (reads.next()?, reads.next()?);
    (used % 8 == 0 && used.checked_add(8) == Some(had)).then_some(Break { used, had })
}

/// The content of a section with one entry more at its end.
fn with_one_more(content: &[u8], entry: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut reader = BinaryReader::new(content, 0);
    let count = reader.read_var_u32()?;
    let entries = content.get(reader.original_position()..).unwrap_or_default();
    let mut more = numbers(&[count as usize + 1]);
    more.extend_from_slice(entries);
    more.extend_from_slice(entry);
    Ok(more)
}

fn numbers(values: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| number(&mut out, *value));
    out
}

/// What comes before the program asks for the size of its memory, as the runtime does once, when the first number is set.
fn put_break_at_end(place: Break) -> Vec<u8> {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.i32_const(0).memory_size(0).i64_extend_i32_u();
    code.i64_const(PAGE).i64_mul().i64_store(at(place.used));
    // Without the number of its local variables, of which it has none.
    function.into_raw_body().split_off(1)
}

/// A 64-bit number at an address.
fn at(of: u32) -> MemArg {
    MemArg {
        offset: of.into(),
        align: 3,
        memory_index: 0,
    }
}

/// The function's code. It gives whole pages, as `sbrk` does, and takes nothing back: the adapter keeps what it has.
fn realloc(place: Break) -> Vec<u8> {
    let (size, begin, end) = (3, 4, 5);
    let mut function = Function::new([(2, ValType::I64)]);
    let mut code = function.instructions();
    code.i32_const(0).i64_load(at(place.had)).i64_eqz();
    // Before there is a break: the end of the memory.
    code.if_(BlockType::Result(ValType::I64));
    code.memory_size(0).i64_extend_i32_u().i64_const(PAGE).i64_mul();
    code.else_()
        .i32_const(0)
        .i64_load(at(place.used))
        .end()
        .local_tee(begin);
    code.local_get(size).i64_extend_i32_u().i64_const(PAGE - 1).i64_add();
    code.i64_const(-PAGE).i64_and().i64_add().local_set(end);
    // Pages up to there, where there are fewer.
    code.local_get(end)
        .memory_size(0)
        .i64_extend_i32_u()
        .i64_const(PAGE)
        .i64_mul();
    code.i64_gt_u().if_(BlockType::Empty);
    code.local_get(end)
        .i64_const(PAGE)
        .i64_div_u()
        .i32_wrap_i64()
        .memory_size(0)
        .i32_sub();
    code.memory_grow(0)
        .i32_const(-1)
        .i32_eq()
        .if_(BlockType::Empty)
        .unreachable()
        .end();
    code.end();
    // The break moves.
    code.i32_const(0)
        .i64_load(at(place.had))
        .i64_eqz()
        .i32_eqz()
        .if_(BlockType::Empty);
    code.i32_const(0).local_get(end).i64_store(at(place.used));
    code.local_get(end)
        .i32_const(0)
        .i64_load(at(place.had))
        .i64_gt_u()
        .if_(BlockType::Empty);
    code.i32_const(0).local_get(end).i64_store(at(place.had)).end();
    code.end();
    code.local_get(begin).i32_wrap_i64().end();
    function.into_raw_body()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Engine, Instance, Store};

    /// What of Go's runtime keeps its memory, as its compiler writes it: the break is at 1024, and the program has three pages.
    fn program(first: &str, reads: &str) -> Vec<u8> {
        let text = format!(
            r#"(module
                {first}
                (memory (export "memory") 3)
                (data (i32.const 1024) "\00\00\02\00\00\00\00\00\00\00\03\00\00\00\00\00")
                (func (export "size") (result i32) (memory.size))
                (func $grow (param i32) (result i32) (memory.grow (local.get 0)))
                (func $sbrk (param i32) (result i32)
                    {reads}
                    (call $grow (local.get 0)))
                (func (export "_start")))"#
        );
        wat::parse_str(text).unwrap()
    }

    const GO: &str = r#"(@custom "go:buildid" (before first) "an id")"#;
    const READS: &str =
        "(drop (i64.load (i32.wrap_i64 (i64.const 1024)))) (drop (i64.load offset=8 (i32.wrap_i64 (i64.const 1024))))";

    #[test]
    fn a_go_program_gives_room_at_its_break() {
        let module = with_room(&program(GO, READS)).unwrap().unwrap();
        wasmparser::Validator::new().validate_all(&module).unwrap();
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let module = wasmtime::Module::new(&engine, &module).unwrap();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let realloc = instance
            .get_typed_func::<(i32, i32, i32, i32), i32>(&mut store, REALLOC)
            .unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let ask = |store: &mut Store<()>, bytes| realloc.call(store, (0, 0, 8, bytes)).unwrap();
        // Of the three pages two are used: the third, then two that are not there yet.
        assert_eq!(ask(&mut store, 65536), 2 << 16);
        assert_eq!(memory.size(&store), 3);
        assert_eq!(ask(&mut store, 65537), 3 << 16);
        assert_eq!(memory.size(&store), 5);
        let mut place = [0; 16];
        memory.read(&store, 1024, &mut place).unwrap();
        assert_eq!(place, *b"\0\0\x05\0\0\0\0\0\0\0\x05\0\0\0\0\0");

        // Before the runtime has set them: at the end of the memory, which is where its break is put.
        memory.write(&mut store, 1024, &[0; 16]).unwrap();
        assert_eq!(ask(&mut store, 65536), 5 << 16);
        memory.read(&store, 1024, &mut place).unwrap();
        assert_eq!(place, [0; 16]);
        let size = instance.get_typed_func::<(), i32>(&mut store, "size").unwrap();
        assert_eq!(size.call(&mut store, ()).unwrap(), 6);
        memory.read(&store, 1024, &mut place).unwrap();
        assert_eq!(place, *b"\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn what_is_not_gos_or_not_as_expected_stays_as_it_is() {
        let apart =
            "(drop (i64.load (i32.wrap_i64 (i64.const 1024)))) (drop (i64.load (i32.wrap_i64 (i64.const 2048))))";
        let twice = r#"(@custom "go:buildid" (before first) "an id") (func (drop (memory.grow (i32.const 1))))"#;
        let own = r#"(@custom "go:buildid" (before first) "an id") (func (export "cabi_realloc"))"#;
        for (first, reads) in [("", READS), (GO, ""), (GO, apart), (twice, READS), (own, READS)] {
            assert_eq!(with_room(&program(first, reads)).unwrap(), None, "{first} {reads}");
        }
    }
}
