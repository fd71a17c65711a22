//! Bytes in other shapes: digests, base64, dumps, gzip.

use crate::files::{self, flags};
use crate::values::said;
use crate::{Io, Outcome};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use std::io::{Read, Write};

/// The reader of a path, `-` meaning standard input.
fn reader<'a>(io: &'a mut dyn std::io::BufRead, path: &str) -> Result<Box<dyn Read + 'a>, String> {
    Ok(match path {
        "-" => Box::new(io),
        path => Box::new(files::open(path)?),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest<D: Digest>(reader: &mut dyn Read) -> Result<String, String> {
    let mut digest = D::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match reader.read(&mut piece).map_err(said)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&piece[..count]),
        }
    }
}

type Summer = fn(&mut dyn Read) -> Result<String, String>;

fn sums(io: &mut Io, args: &[String], name: &str, sum: Summer) -> Outcome {
    let (flags, mut paths) = flags(args);
    if paths.is_empty() {
        paths.push("-");
    }
    let mut code = 0;
    for path in paths {
        if flags.contains('c') {
            let text = files::input_text(io, path)?;
            for line in text.lines() {
                let (wanted, file) = line.split_once([' ', '\t']).ok_or("no line of a checksum")?;
                let file = file.trim_start_matches([' ', '*']);
                let good = files::open(file).is_ok_and(|mut opened| sum(&mut opened).is_ok_and(|sum| sum == wanted));
                writeln!(io.out, "{file}: {}", if good { "OK" } else { "FAILED" }).map_err(said)?;
                code |= i32::from(!good);
            }
            continue;
        }
        let summed = reader(io.input, path).and_then(|mut reader| sum(&mut reader));
        match summed {
            Ok(sum) => writeln!(io.out, "{sum}  {path}").map_err(said)?,
            Err(what) => {
                io.complain(name, what);
                code = 1;
            }
        }
    }
    Ok(code)
}

pub fn sha256sum(io: &mut Io, args: &[String]) -> Outcome {
    sums(io, args, "sha256sum", digest::<Sha256>)
}

pub fn sha512sum(io: &mut Io, args: &[String]) -> Outcome {
    sums(io, args, "sha512sum", digest::<Sha512>)
}

pub fn sha1sum(io: &mut Io, args: &[String]) -> Outcome {
    sums(io, args, "sha1sum", digest::<Sha1>)
}

pub fn md5sum(io: &mut Io, args: &[String]) -> Outcome {
    sums(io, args, "md5sum", digest::<Md5>)
}

const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `base64 [-d] [-w COLUMNS] [FILE]`
pub fn base64(io: &mut Io, args: &[String]) -> Outcome {
    let (mut decode, mut columns, mut path) = (false, 76, "-");
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-d" | "-D" | "--decode" => decode = true,
            "-w" => {
                columns = rest
                    .next()
                    .and_then(|text| text.parse().ok())
                    .ok_or("-w needs a number")?
            }
            flag if flag.starts_with("-w") => columns = flag[2..].parse().map_err(|_| "-w needs a number")?,
            other => path = other,
        }
    }
    let mut bytes = Vec::new();
    reader(io.input, path)?.read_to_end(&mut bytes).map_err(said)?;
    if decode {
        let plain = decoded(&bytes).ok_or("invalid input")?;
        io.out.write_all(&plain).map_err(said)?;
        return Ok(0);
    }
    let text = base64_text(&bytes);
    let columns = if columns == 0 { text.len().max(1) } else { columns };
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(columns)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    let end = if columns == text.len().max(1) && args.iter().any(|arg| arg.starts_with("-w")) {
        ""
    } else {
        "\n"
    };
    if !text.is_empty() {
        write!(io.out, "{}{end}", lines.join("\n")).map_err(said)?;
    }
    Ok(0)
}

/// Bytes in base64, on one line.
pub fn base64_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            text.push(match place <= group.len() {
                true => char::from(SIGNS[(bits >> (18 - 6 * place) & 63) as usize]),
                false => '=',
            });
        }
    }
    text
}

fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.iter().filter(|byte| !byte.is_ascii_whitespace() && **byte != b'=') {
        let value = SIGNS.iter().position(|sign| sign == byte)? as u32;
        bits = bits << 6 | value;
        count += 6;
        if count >= 8 {
            count -= 8;
            plain.push((bits >> count) as u8);
        }
    }
    Some(plain)
}

/// `hexdump -C`, `xxd`: sixteen bytes a line, with their signs.
pub fn hexdump(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    let mut bytes = Vec::new();
    reader(io.input, paths.first().copied().unwrap_or("-"))?
        .read_to_end(&mut bytes)
        .map_err(said)?;
    for (index, line) in bytes.chunks(16).enumerate() {
        if !flags.contains('C') {
            let words: String = line
                .chunks(2)
                .map(|pair| format!(" {:02x}{:02x}", pair.get(1).copied().unwrap_or_default(), pair[0]))
                .collect();
            writeln!(io.out, "{:07x}{words}", index * 16).map_err(said)?;
            continue;
        }
        let half = |bytes: &[u8]| bytes.iter().map(|byte| format!(" {byte:02x}")).collect::<String>();
        let (left, right) = line.split_at(line.len().min(8));
        let signs: String = line
            .iter()
            .map(|byte| {
                if (32..127).contains(byte) {
                    char::from(*byte)
                } else {
                    '.'
                }
            })
            .collect();
        writeln!(
            io.out,
            "{:08x} {:<24} {:<24}  |{signs}|",
            index * 16,
            half(left),
            half(right)
        )
        .map_err(said)?;
    }
    let width = if flags.contains('C') { 8 } else { 7 };
    if !bytes.is_empty() {
        writeln!(io.out, "{:0width$x}", bytes.len()).map_err(said)?;
    }
    Ok(0)
}

/// `od [-A BASE] [-t TYPE] [-An] [-tx1] [-c] [-N BYTES] [FILE]`
pub fn od(io: &mut Io, args: &[String]) -> Outcome {
    let (mut base, mut kind, mut limit, mut path) = ('o', "o2".to_owned(), u64::MAX, "-");
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = |short: &str| match arg.strip_prefix(short) {
            Some("") => rest.next().map(String::as_str),
            other => other,
        };
        if let Some(text) = value("-A") {
            base = text.chars().next().unwrap_or('o');
        } else if let Some(text) = value("-t") {
            kind = text.to_owned();
        } else if let Some(text) = value("-N") {
            limit = text.parse().map_err(|_| format!("invalid number '{text}'"))?;
        } else {
            match arg.as_str() {
                "-c" => kind = "c".into(),
                "-x" => kind = "x2".into(),
                "-b" => kind = "o1".into(),
                "-d" => kind = "u2".into(),
                "-v" => {}
                other => path = other,
            }
        }
    }
    let size: usize = kind[1..]
        .parse()
        .unwrap_or(if kind.starts_with(['c', 'a']) { 1 } else { 4 });
    let mut bytes = Vec::new();
    reader(io.input, path)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(said)?;
    let address = |at: usize| match base {
        'n' => String::new(),
        'x' => format!("{at:06x}"),
        'd' => format!("{at:07}"),
        _ => format!("{at:07o}"),
    };
    for (index, line) in bytes.chunks(16).enumerate() {
        let mut text = address(index * 16);
        for part in line.chunks(size.max(1)) {
            let value = part
                .iter()
                .rev()
                .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
            text += &match kind.chars().next() {
                Some('x') => format!(" {value:0width$x}", width = size * 2),
                Some('u') => format!(" {value:width$}", width = [0, 3, 5, 0, 10][size.min(4)]),
                Some('d') => format!(" {:width$}", value as i64, width = [0, 4, 6, 0, 11][size.min(4)]),
                Some('c' | 'a') => format!(" {:>3}", sign(part[0])),
                _ => format!(" {value:0width$o}", width = [0, 3, 6, 0, 11][size.min(4)]),
            };
        }
        writeln!(io.out, "{text}").map_err(said)?;
    }
    if base != 'n' {
        writeln!(io.out, "{}", address(bytes.len())).map_err(said)?;
    }
    Ok(0)
}

fn sign(byte: u8) -> String {
    match byte {
        0 => "\\0".into(),
        7 => "\\a".into(),
        8 => "\\b".into(),
        9 => "\\t".into(),
        10 => "\\n".into(),
        13 => "\\r".into(),
        32..127 => char::from(byte).to_string(),
        byte => format!("{byte:03o}"),
    }
}

/// `gzip [-cdkf] [FILE...]`
pub fn gzip(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    squeeze(
        io,
        &paths,
        flags.contains('d'),
        flags.contains('c'),
        flags.contains('k'),
    )
}

pub fn gunzip(io: &mut Io, args: &[String]) -> Outcome {
    let (flags, paths) = flags(args);
    squeeze(io, &paths, true, flags.contains('c'), flags.contains('k'))
}

pub fn zcat(io: &mut Io, args: &[String]) -> Outcome {
    let (_, paths) = flags(args);
    squeeze(io, &paths, true, true, true)
}

fn squeeze(io: &mut Io, paths: &[&str], expand: bool, to_output: bool, keep: bool) -> Outcome {
    if paths.is_empty() || paths == ["-"] {
        copy(io.input, io.out, expand)?;
        return Ok(0);
    }
    for path in paths {
        let mut input = files::open(path)?;
        if to_output {
            copy(&mut input, io.out, expand)?;
            continue;
        }
        let target = match expand {
            true => path
                .strip_suffix(".gz")
                .ok_or_else(|| format!("{path}: unknown suffix"))?
                .to_owned(),
            false => format!("{path}.gz"),
        };
        let mut output = std::fs::File::create(files::path(&target)).map_err(|error| files::why(&target, &error))?;
        copy(&mut input, &mut output, expand)?;
        if !keep {
            std::fs::remove_file(files::path(path)).map_err(|error| files::why(path, &error))?;
        }
    }
    Ok(0)
}

fn copy(input: &mut dyn Read, output: &mut dyn Write, expand: bool) -> Result<(), String> {
    match expand {
        true => {
            std::io::copy(&mut MultiGzDecoder::new(input), output).map_err(|error| format!("invalid data: {error}"))?
        }
        false => {
            let mut encoder = GzEncoder::new(output, Compression::default());
            let count = std::io::copy(input, &mut encoder).map_err(said)?;
            encoder.finish().map_err(said)?;
            count
        }
    };
    Ok(())
}
