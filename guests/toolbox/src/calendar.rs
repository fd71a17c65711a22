//! `date`: the civil calendar in UTC.

use crate::values::said;
use crate::{Io, Outcome};
use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment by calendar and clock.
pub struct Moment {
    pub seconds: i64,
    pub nanos: u32,
    pub year: i64,
    pub month: i64,
    pub day: i64,
}

impl Moment {
    pub fn of(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self::at(since.as_secs() as i64, since.subsec_nanos()),
            Err(before) => Self::at(-(before.duration().as_secs() as i64), 0),
        }
    }

    pub fn at(seconds: i64, nanos: u32) -> Self {
        // Years that begin in March have the odd day at their end.
        let shifted = seconds.div_euclid(86400) + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self {
            seconds,
            nanos,
            year,
            month,
            day,
        }
    }

    fn day_of_year(&self) -> i64 {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let months = before.get(self.month as usize - 1).copied().unwrap_or_default();
        months + self.day + i64::from(leap && self.month > 2)
    }

    pub fn format(&self, format: &str) -> String {
        let of_day = self.seconds.rem_euclid(86400);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let weekday = (self.seconds.div_euclid(86400) + 4).rem_euclid(7);
        let day_name = DAYS.get(weekday as usize).copied().unwrap_or_default();
        let month_name = MONTHS.get(self.month as usize - 1).copied().unwrap_or_default();
        let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
        let (year, month, day) = (self.year, self.month, self.day);
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let mut kind = chars.next();
            let plain = kind == Some('-');
            if plain {
                kind = chars.next();
            }
            let two = |number: i64| {
                if plain {
                    number.to_string()
                } else {
                    format!("{number:02}")
                }
            };
            text += &match kind {
                Some('Y') => year.to_string(),
                Some('y') => two(year % 100),
                Some('m') => two(month),
                Some('d') => two(day),
                Some('e') => format!("{day:>2}"),
                Some('H') => two(hour),
                Some('I') => two(twelve),
                Some('M') => two(minute),
                Some('S') => two(second),
                Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
                Some('N') => format!("{:09}", self.nanos),
                Some('s') => self.seconds.to_string(),
                Some('j') => format!("{:03}", self.day_of_year()),
                Some('a') => day_name[..3].to_owned(),
                Some('A') => day_name.to_owned(),
                Some('b' | 'h') => month_name[..3].to_owned(),
                Some('B') => month_name.to_owned(),
                Some('u') => if weekday == 0 { 7 } else { weekday }.to_string(),
                Some('w') => weekday.to_string(),
                Some('F') => format!("{year}-{month:02}-{day:02}"),
                Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
                Some('R') => format!("{hour:02}:{minute:02}"),
                Some('D') => format!("{month:02}/{day:02}/{:02}", year % 100),
                Some('c') => self.format("%a %b %e %H:%M:%S %Y"),
                Some('Z') => "UTC".to_owned(),
                Some('z') => "+0000".to_owned(),
                Some('n') => "\n".to_owned(),
                Some('t') => "\t".to_owned(),
                Some('%') => "%".to_owned(),
                Some(other) => format!("%{other}"),
                None => "%".to_owned(),
            };
        }
        text
    }
}

/// A time as people give it: `@SECONDS`, `YYYY-MM-DD`, with a clock behind `T` or a blank.
fn parsed(text: &str) -> Option<i64> {
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().ok();
    }
    let text = text.trim_end_matches('Z').trim_end_matches(" UTC");
    let (date, clock) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let numbers: Option<Vec<i64>> = date.split('-').map(|part| part.parse().ok()).collect();
    let [year, month, day] = numbers?.try_into().ok()?;
    let mut clock = clock.split('.').next()?.split(':').map(|part| part.parse::<i64>().ok());
    let mut part = || clock.next().unwrap_or(Some(0));
    let (hour, minute, second) = (part()?, part()?, part()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (shifted_year, shifted_month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    Some((era * 146_097 + of_era - 719_468) * 86400 + hour * 3600 + minute * 60 + second)
}

/// `date [-u] [-d TIME] [-I] [-R] [+FORMAT]`
pub fn date(io: &mut Io, args: &[String]) -> Outcome {
    let mut moment = Moment::of(SystemTime::now());
    let mut format = "%a %b %e %H:%M:%S UTC %Y".to_owned();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-u" | "--utc" => {}
            "-d" | "--date" => {
                let text = rest.next().ok_or("-d needs a time")?;
                if text != "now" {
                    let seconds = parsed(text).ok_or_else(|| format!("invalid date '{text}'"))?;
                    moment = Moment::at(seconds, 0);
                }
            }
            "-r" => {
                let path = rest.next().ok_or("-r needs a file")?;
                let changed = std::fs::metadata(crate::files::path(path)).and_then(|found| found.modified());
                moment = Moment::of(changed.map_err(|error| crate::files::why(path, &error))?);
            }
            "-I" | "-Idate" => format = "%F".into(),
            "-Iseconds" | "-Is" => format = "%FT%T+00:00".into(),
            "-R" => format = "%a, %d %b %Y %H:%M:%S +0000".into(),
            arg => match arg.strip_prefix('+') {
                Some(text) => format = text.to_owned(),
                None => return Err(format!("invalid date '{arg}'")),
            },
        }
    }
    writeln!(io.out, "{}", moment.format(&format)).map_err(said)?;
    Ok(0)
}
