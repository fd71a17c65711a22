//! The names of the toolbox's commands. The node reads this list too: a name that is not here is no program of a container.

/// Every command, sorted.
pub const COMMANDS: &[&str] = &[
    "[", "basename", "cat", "cp", "cut", "date", "dirname", "echo", "env", "false", "grep", "head", "hostname", "ls",
    "mkdir", "mv", "nslookup", "printenv", "printf", "pwd", "rm", "rmdir", "seq", "sh", "sleep", "sort", "tail", "tar",
    "tee", "test", "touch", "tr", "true", "uniq", "wc", "wget",
];
