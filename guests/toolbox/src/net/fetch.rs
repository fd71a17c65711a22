//! `wget` and `curl`.

use super::http::{Ask, split_url};
use crate::files;
use crate::values::said;
use crate::{Io, Outcome};
use std::io::{Read, Write};

/// `wget [-q] [-S] [-O FILE] [-T SECONDS] [--header=H] [--post-data=D] URL`. Without `-O` the answer goes to a file that is named
/// as the URL ends.
pub fn wget(io: &mut Io, args: &[String]) -> Outcome {
    let mut ask = Ask {
        method: "GET".into(),
        url: String::new(),
        headers: vec![("user-agent".into(), "Wget".into())],
        body: Vec::new(),
        timeout: None,
        redirects: true,
    };
    let (mut target, mut show, mut spider) = (None, false, false);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = |long: &str| match arg.strip_prefix(long)? {
            "" => rest.next().cloned(),
            text => Some(text.trim_start_matches('=').to_owned()),
        };
        if let Some(text) = value("--header") {
            ask.headers.push(header(&text)?);
        } else if let Some(text) = value("--post-data") {
            ask.method = "POST".into();
            ask.body = text.into_bytes();
        } else if let Some(text) = value("--timeout").or_else(|| value("-T")) {
            ask.timeout = Some(crate::values::duration(&text)?);
        } else if arg == "--spider" {
            spider = true;
        } else if let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.starts_with('-')) {
            show |= letters.contains('S');
            if let Some((_, path)) = letters.split_once('O') {
                target = match path {
                    "" => rest.next().cloned(),
                    path => Some(path.to_owned()),
                };
            } else if letters.contains('t') {
                rest.next();
            }
        } else if !arg.starts_with('-') {
            ask.url = arg.clone();
        }
    }
    if ask.url.is_empty() {
        return Err("a URL is needed".into());
    }
    let reply = ask.send()?;
    if show {
        for (name, value) in &reply.headers {
            writeln!(io.err, "  {name}: {value}").map_err(said)?;
        }
    }
    if !(200..300).contains(&reply.status) {
        return Err(format!("server returned error: HTTP/1.1 {}", reply.status));
    }
    if spider {
        return Ok(0);
    }
    match target.as_deref() {
        Some("-") => drop(reply.copy_to(io.out)?),
        other => {
            let (_, _, path) = split_url(&ask.url)?;
            let path = path.split('?').next().unwrap_or_default();
            let name = path
                .rsplit('/')
                .next()
                .filter(|name| !name.is_empty())
                .unwrap_or("index.html");
            let mut file = files::create(other.unwrap_or(name), false)?;
            reply.copy_to(&mut file)?;
        }
    }
    Ok(0)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("bad header '{text}'"))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// `curl`: the options that scripts use. A certificate is always checked, against the cluster's authority.
pub fn curl(io: &mut Io, args: &[String]) -> Outcome {
    let mut ask = Ask {
        method: String::new(),
        url: String::new(),
        headers: vec![("user-agent".into(), "curl".into()), ("accept".into(), "*/*".into())],
        body: Vec::new(),
        timeout: None,
        redirects: false,
    };
    let (mut output, mut format, mut letters) = (None, None, String::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(flag) = arg.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            ask.url = arg.clone();
            continue;
        };
        let names = match flag.strip_prefix('-') {
            Some(long) => vec![(long.to_owned(), String::new())],
            None => flag
                .char_indices()
                .map(|(at, letter)| (letter.to_string(), flag[at + letter.len_utf8()..].to_owned()))
                .collect(),
        };
        for (name, attached) in names {
            let takes = matches!(
                name.as_str(),
                "X" | "request"
                    | "H"
                    | "header"
                    | "d"
                    | "data"
                    | "data-raw"
                    | "data-binary"
                    | "o"
                    | "output"
                    | "w"
                    | "write-out"
                    | "m"
                    | "max-time"
                    | "connect-timeout"
                    | "u"
                    | "user"
                    | "A"
                    | "user-agent"
                    | "retry"
                    | "cacert"
                    | "T"
                    | "upload-file"
            );
            if !takes {
                letters += match name.as_str() {
                    "silent" => "s",
                    "show-error" => "S",
                    "fail" => "f",
                    "location" => "L",
                    "head" => "I",
                    "include" => "i",
                    "verbose" => "v",
                    name if name.len() == 1 => name,
                    "insecure" | "compressed" | "http1.1" | "no-buffer" => "",
                    other => return Err(format!("option --{other}: is unknown")),
                };
                continue;
            }
            let value = match attached.as_str() {
                "" => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| format!("option {arg}: requires parameter"))?,
                value => value.to_owned(),
            };
            match name.as_str() {
                "X" | "request" => ask.method = value,
                "H" | "header" => ask.headers.push(header(&value)?),
                "o" | "output" => output = Some(value),
                "w" | "write-out" => format = Some(value),
                "m" | "max-time" | "connect-timeout" => ask.timeout = Some(crate::values::duration(&value)?),
                "A" | "user-agent" => ask.headers[0].1 = value,
                "u" | "user" => {
                    let code = crate::encode::base64_text(value.as_bytes());
                    ask.headers.push(("authorization".into(), format!("Basic {code}")));
                }
                "T" | "upload-file" => {
                    files::open(&value)?.read_to_end(&mut ask.body).map_err(said)?;
                    ask.method = "PUT".into();
                }
                "retry" | "cacert" => {}
                _ => {
                    let mut data = Vec::new();
                    match value.strip_prefix('@').filter(|_| name != "data-raw") {
                        Some("-") => drop(io.input.read_to_end(&mut data).map_err(said)?),
                        Some(path) => drop(files::open(path)?.read_to_end(&mut data).map_err(said)?),
                        None => data = value.into_bytes(),
                    }
                    if !ask.body.is_empty() {
                        ask.body.push(b'&');
                    }
                    ask.body.extend(data);
                }
            }
            // The rest of a group of letters was the value.
            break;
        }
    }
    if ask.url.is_empty() {
        return Err("no URL specified".into());
    }
    let has = |letter: char| letters.contains(letter);
    if ask.method.is_empty() {
        ask.method = match (has('I'), ask.body.is_empty()) {
            (true, _) => "HEAD",
            (_, false) => "POST",
            _ => "GET",
        }
        .into();
    }
    if !ask.body.is_empty() && !ask.headers.iter().any(|(name, _)| name == "content-type") {
        ask.headers
            .push(("content-type".into(), "application/x-www-form-urlencoded".into()));
    }
    ask.redirects = has('L');
    let reply = match ask.send() {
        Ok(reply) => reply,
        Err(what) => {
            if !has('s') || has('S') {
                io.complain("curl", &what);
            }
            // As curl has it: a name that is not found, a connection that is refused, a time that is over.
            return Ok(match () {
                () if what.contains("bad address") => 6,
                () if what.contains("timed out") => 28,
                () if what.contains("not supported") => 1,
                () => 7,
            });
        }
    };
    let (status, url) = (reply.status, reply.url.clone());
    if has('f') && status >= 400 {
        if !has('s') || has('S') {
            io.complain("curl", format!("(22) The requested URL returned error: {status}"));
        }
        return Ok(22);
    }
    let mut file = output.map(|path| files::create(&path, false)).transpose()?;
    let out: &mut dyn Write = match &mut file {
        Some(file) => file,
        None => io.out,
    };
    if has('i') || has('I') {
        write!(out, "HTTP/1.1 {status}\r\n").map_err(said)?;
        for (name, value) in &reply.headers {
            write!(out, "{name}: {value}\r\n").map_err(said)?;
        }
        write!(out, "\r\n").map_err(said)?;
    }
    let size = if has('I') { 0 } else { reply.copy_to(out)? };
    if let Some(format) = format {
        let text = format
            .replace("%{http_code}", &status.to_string())
            .replace("%{response_code}", &status.to_string())
            .replace("%{url_effective}", &url)
            .replace("%{size_download}", &size.to_string())
            .replace("\\n", "\n")
            .replace("\\t", "\t");
        io.out.write_all(text.as_bytes()).map_err(said)?;
    }
    Ok(0)
}
