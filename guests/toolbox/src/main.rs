//! `toolbox`: the usual commands in one program, for `kubectl exec`. The first argument's last part says which.
//!
//! ```text
//! toolbox COMMAND [ARGUMENT...]    or any of COMMAND as its own name
//! ```
//!
//! A command is a function from arguments and streams to an exit code; the shell calls the same functions, because a WASI
//! program cannot start another.

mod commands;
mod files;
mod net;
mod shell;
mod tar;
mod text;
mod values;

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};

/// What a command may use.
pub struct Io<'a> {
    pub input: &'a mut dyn BufRead,
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    pub env: &'a BTreeMap<String, String>,
}

impl Io<'_> {
    /// Says on standard error what went wrong.
    pub fn complain(&mut self, command: &str, what: impl std::fmt::Display) {
        // In one piece, for whoever reads may leave after the first. Where standard error is gone there is nobody to tell.
        let _ = self.err.write_all(format!("{command}: {what}\n").as_bytes());
    }
}

/// A command: exit code, or what to say on standard error.
pub type Outcome = Result<i32, String>;
type Command = fn(&mut Io, &[String]) -> Outcome;

/// The function of a command, but for the shell.
pub fn find(name: &str) -> Option<Command> {
    Some(match name {
        "[" | "test" => values::test,
        "basename" => values::basename,
        "cat" => text::cat,
        "cp" => files::cp,
        "cut" => text::cut,
        "date" => values::date,
        "dirname" => values::dirname,
        "echo" => values::echo,
        "env" | "printenv" => values::env,
        "false" => |_, _| Ok(1),
        "grep" => text::grep,
        "head" => text::head,
        "hostname" => values::hostname,
        "ls" => files::ls,
        "mkdir" => files::mkdir,
        "mv" => files::mv,
        "nslookup" => net::nslookup,
        "printf" => values::printf,
        "pwd" => values::pwd,
        "rm" => files::rm,
        "rmdir" => files::rmdir,
        "seq" => values::seq,
        "sh" => shell::sh,
        "sleep" => values::sleep,
        "sort" => text::sort,
        "tail" => text::tail,
        "tar" => tar::tar,
        "tee" => text::tee,
        "touch" => files::touch,
        "tr" => text::tr,
        "true" => |_, _| Ok(0),
        "uniq" => text::uniq,
        "wc" => text::wc,
        "wget" => net::wget,
        _ => return None,
    })
}

/// Runs a command by its arguments, name first.
pub fn run(io: &mut Io, args: &[String]) -> i32 {
    let Some((name, rest)) = args.split_first() else {
        return 0;
    };
    let name = name.rsplit('/').next().unwrap_or(name);
    let Some(command) = find(name) else {
        io.complain(name, "not found");
        return 127;
    };
    match command(io, rest) {
        Ok(code) => code,
        Err(what) => {
            io.complain(name, what);
            1
        }
    }
}

fn main() {
    let mut args: Vec<String> = std::env::args().collect();
    if args.first().is_some_and(|name| name.ends_with("toolbox")) {
        args.remove(0);
    }
    if args.is_empty() {
        println!("{}", commands::COMMANDS.join(" "));
        return;
    }
    let env = std::env::vars().collect();
    let (mut input, mut out, mut err) = (io::stdin().lock(), io::stdout().lock(), io::stderr());
    let mut io = Io {
        input: &mut input,
        out: &mut out,
        err: &mut err,
        env: &env,
    };
    let code = run(&mut io, &args);
    let _ = out.flush();
    if code != 0 {
        // std can only say "ok" or "failed" in WASI 0.2; this call carries the code itself.
        wasip2::cli::exit::exit_with_code(code as u8);
    }
}

/// Whether a person types the input.
pub fn interactive() -> bool {
    io::stdin().is_terminal()
}
