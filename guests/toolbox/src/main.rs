//! `toolbox`: the usual commands in one program, for `kubectl exec` and for containers. The first argument's last part says which.
//!
//! ```text
//! toolbox COMMAND [ARGUMENT...]    or any of COMMAND as its own name
//! ```
//!
//! A command is a function from arguments and streams to an exit code. The shell starts the others as processes of the
//! container, each in an instance of its own; a few it has built in.

mod awk;
mod calendar;
mod commands;
mod compare;
mod encode;
mod excerpts;
mod expressions;
mod files;
mod find;
mod grep;
mod listing;
mod machine;
mod net;
mod processes;
mod sed;
mod shell;
mod sorting;
mod sys;
mod tar;
mod text;
mod values;

use std::io::{self, BufRead, BufWriter, IsTerminal, Write};

/// What a command may use.
pub struct Io<'a> {
    pub input: &'a mut dyn BufRead,
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
}

impl Io<'_> {
    /// Says on standard error what went wrong.
    pub fn complain(&mut self, command: &str, what: impl std::fmt::Display) {
        // In one piece, for whoever reads may leave after the first. Where standard error is gone there is nobody to tell.
        let _ = self.err.write_all(format!("{command}: {what}\n").as_bytes());
    }
}

/// The value of the option that `rest` begins with, if it is this one: what follows in its argument, or else the next
/// argument. Moves `rest` past it.
pub fn option(rest: &mut &[String], flag: &str) -> Option<String> {
    let (first, after) = rest.split_first()?;
    let (value, after) = match first.strip_prefix(flag)? {
        "" => after.split_first().map(|(value, after)| (value.as_str(), after))?,
        value => (value, after),
    };
    let value = value.to_owned();
    *rest = after;
    Some(value)
}

/// A command: exit code, or what to say on standard error.
pub type Outcome = Result<i32, String>;
type Command = fn(&mut Io, &[String]) -> Outcome;

/// The function of a command, but for the shell's.
pub fn find(name: &str) -> Option<Command> {
    Some(match name {
        "[" | "test" => shell::test,
        "awk" => awk::awk,
        "base64" => encode::base64,
        "basename" => values::basename,
        "cat" => text::cat,
        "chmod" | "chown" => files::chmod,
        "cmp" => machine::cmp,
        "cp" => files::cp,
        "curl" => net::curl,
        "cut" => text::cut,
        "date" => calendar::date,
        "dd" => machine::dd,
        "df" => listing::df,
        "diff" => machine::diff,
        "dig" => net::dig,
        "dirname" => values::dirname,
        "du" => listing::du,
        "echo" => values::echo,
        "egrep" => grep::egrep,
        "env" => values::env,
        "expr" => machine::expr,
        "false" => |_, _| Ok(1),
        "fgrep" => grep::fgrep,
        "find" => find::find,
        "grep" => grep::grep,
        "gunzip" => encode::gunzip,
        "gzip" => encode::gzip,
        "head" => excerpts::head,
        "hexdump" => encode::hexdump,
        "hostname" => values::hostname,
        "id" => machine::id,
        "kill" => processes::kill_command,
        "ln" => files::ln,
        "ls" => listing::ls,
        "md5sum" => encode::md5sum,
        "mkdir" => files::mkdir,
        "mktemp" => files::mktemp,
        "mv" => files::mv,
        "nc" => net::nc,
        "nl" => text::nl,
        "nproc" => machine::nproc,
        "nslookup" => net::nslookup,
        "od" => encode::od,
        "paste" => text::paste,
        "printenv" => values::printenv,
        "printf" => shell::printf,
        "ps" => processes::ps,
        "pwd" => values::pwd,
        "readlink" => files::readlink,
        "realpath" => files::realpath,
        "rev" => text::rev,
        "rm" => files::rm,
        "rmdir" => files::rmdir,
        "sed" => sed::sed,
        "seq" => values::seq,
        "sha1sum" => encode::sha1sum,
        "sha256sum" => encode::sha256sum,
        "sha512sum" => encode::sha512sum,
        "sleep" => values::sleep,
        "sort" => sorting::sort,
        "stat" => listing::stat,
        "stty" => machine::stty,
        "tac" => text::tac,
        "tail" => excerpts::tail,
        "tar" => tar::tar,
        "tee" => text::tee,
        "timeout" => processes::timeout,
        "touch" => files::touch,
        "tr" => text::tr,
        "true" => |_, _| Ok(0),
        "uname" => machine::uname,
        "uniq" => text::uniq,
        "wc" => text::wc,
        "wget" => net::wget,
        "which" => machine::which,
        "whoami" => machine::whoami,
        "xargs" => find::xargs,
        "yes" => machine::yes,
        "zcat" => encode::zcat,
        _ => return None,
    })
}

/// Runs a command by its arguments, name first.
fn run(io: &mut Io, args: &[String]) -> i32 {
    let Some((name, rest)) = args.split_first() else {
        return 0;
    };
    let name = name.rsplit('/').next().unwrap_or(name);
    let Some(command) = find(name) else {
        io.complain(name, "not found");
        return 127;
    };
    let rest = match (name, rest.split_last()) {
        ("[", Some((last, rest))) if last == "]" => rest,
        _ => rest,
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
    let code = match args.first().map(|name| name.rsplit('/').next().unwrap_or(name)) {
        None => {
            println!("{}", commands::COMMANDS.join(" "));
            0
        }
        Some("sh" | "ash" | "bash" | "dash") => shell::main(&args),
        Some(_) => with_streams(&args),
    };
    if code != 0 {
        // std can only say "ok" or "failed" in WASI 0.2; this call carries the code itself.
        wasip2::cli::exit::exit_with_code(code as u8);
    }
}

fn with_streams(args: &[String]) -> i32 {
    let (mut input, mut err) = (io::stdin().lock(), io::stderr());
    let stdout = io::stdout().lock();
    // A person sees each line when it is written; another program is served better with larger pieces.
    let mut out: Box<dyn Write> = match stdout.is_terminal() {
        true => Box::new(stdout),
        false => Box::new(BufWriter::new(stdout)),
    };
    let mut io = Io {
        input: &mut input,
        out: &mut out,
        err: &mut err,
    };
    let code = run(&mut io, args);
    match out.flush() {
        Ok(()) => code,
        Err(_) => code.max(1),
    }
}
