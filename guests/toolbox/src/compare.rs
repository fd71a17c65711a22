//! The lines in which two texts differ.

use std::io::{self, Write};
use std::ops::Range;

/// The most lines that are compared: the table of the comparison grows with the product of both texts.
const MAX_CELLS: usize = 16 << 20;

/// Lines of the left text in place of which the right one has others; either side may be empty.
pub type Change = (Range<usize>, Range<usize>);

/// How many lines the unified format shows around a change.
const AROUND: usize = 3;

/// What differs, in order, by the longest common sequence.
pub fn changes(left: &[&str], right: &[&str]) -> Result<Vec<Change>, String> {
    let begin = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let most = left.len().min(right.len()) - begin;
    let end = left
        .iter()
        .rev()
        .zip(right.iter().rev())
        .take(most)
        .take_while(|(a, b)| a == b)
        .count();
    let (a, b) = (&left[begin..left.len() - end], &right[begin..right.len() - end]);
    let width = b.len() + 1;
    if (a.len() + 1).saturating_mul(width) > MAX_CELLS {
        return Err("the files differ too much to be compared by line".into());
    }
    let mut common = vec![0_u32; (a.len() + 1) * width];
    for row in (0..a.len()).rev() {
        for column in (0..b.len()).rev() {
            common[row * width + column] = match a[row] == b[column] {
                true => common[(row + 1) * width + column + 1] + 1,
                false => common[(row + 1) * width + column].max(common[row * width + column + 1]),
            };
        }
    }
    let mut changes: Vec<Change> = Vec::new();
    let (mut row, mut column) = (0, 0);
    while row < a.len() || column < b.len() {
        if row < a.len() && column < b.len() && a[row] == b[column] {
            row += 1;
            column += 1;
            continue;
        }
        let (from_row, from_column) = (row, column);
        while (row < a.len() || column < b.len()) && !(row < a.len() && column < b.len() && a[row] == b[column]) {
            let down = row < a.len()
                && (column >= b.len() || common[(row + 1) * width + column] >= common[row * width + column + 1]);
            match down {
                true => row += 1,
                false => column += 1,
            }
        }
        changes.push((begin + from_row..begin + row, begin + from_column..begin + column));
    }
    Ok(changes)
}

fn numbers(range: &Range<usize>) -> String {
    match range.len() {
        0 => range.start.to_string(),
        1 => (range.start + 1).to_string(),
        _ => format!("{},{}", range.start + 1, range.end),
    }
}

pub fn plain(out: &mut dyn Write, left: &[&str], right: &[&str], changes: &[Change]) -> io::Result<()> {
    for (a, b) in changes {
        let kind = match (a.is_empty(), b.is_empty()) {
            (true, _) => 'a',
            (_, true) => 'd',
            _ => 'c',
        };
        writeln!(out, "{}{kind}{}", numbers(a), numbers(b))?;
        for line in &left[a.clone()] {
            writeln!(out, "< {line}")?;
        }
        if kind == 'c' {
            writeln!(out, "---")?;
        }
        for line in &right[b.clone()] {
            writeln!(out, "> {line}")?;
        }
    }
    Ok(())
}

pub fn unified(out: &mut dyn Write, left: &[&str], right: &[&str], changes: &[Change]) -> io::Result<()> {
    let mut rest = changes;
    while let Some((first, _)) = rest.first() {
        // Changes near each other are shown together.
        let near = rest
            .windows(2)
            .take_while(|pair| pair[1].0.start <= pair[0].0.end + 2 * AROUND)
            .count()
            + 1;
        let (together, after) = rest.split_at(near);
        rest = after;
        let last = &together[together.len() - 1];
        let begin = first.start.saturating_sub(AROUND);
        let end = (last.0.end + AROUND).min(left.len());
        let right_begin = together[0].1.start - (first.start - begin);
        let right_end = last.1.end + (end - last.0.end);
        let span = |begin: usize, end: usize| match end - begin {
            0 => format!("{begin},0"),
            1 => (begin + 1).to_string(),
            count => format!("{},{count}", begin + 1),
        };
        writeln!(out, "@@ -{} +{} @@", span(begin, end), span(right_begin, right_end))?;
        let mut at = begin;
        for (a, b) in together {
            left[at..a.start].iter().try_for_each(|line| writeln!(out, " {line}"))?;
            left[a.clone()].iter().try_for_each(|line| writeln!(out, "-{line}"))?;
            right[b.clone()].iter().try_for_each(|line| writeln!(out, "+{line}"))?;
            at = a.end;
        }
        left[at..end].iter().try_for_each(|line| writeln!(out, " {line}"))?;
    }
    Ok(())
}
