//! What a running cluster tells its user.

use std::{fmt::Display, io::Write};

/// Prints a line. A reader that has gone away, such as `head`, must not end the cluster, so failures are ignored.
pub fn say(line: impl Display) {
    writeln!(std::io::stdout(), "{line}").ok();
}
