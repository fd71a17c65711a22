//! Counters of the server, in the text form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write;

use parking_lot::Mutex;

/// How many different (verb, resource, code) are counted. Resources come from clients before it is known that they exist,
/// so without a limit a client could make the server remember without end.
const SERIES: usize = 4096;

/// Requests by verb, resource and status code.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<Requests>,
}

/// Counts by resource, verb and code, and how many counts there are.
#[derive(Default)]
struct Requests {
    by_resource: BTreeMap<String, BTreeMap<(&'static str, u16), u64>>,
    series: usize,
}

impl Metrics {
    /// Counts an answered request.
    pub(crate) fn count(&self, verb: &'static str, resource: &str, code: u16) {
        let mut requests = self.requests.lock();
        let Requests { by_resource, series } = &mut *requests;
        if let Some(count) = by_resource
            .get_mut(resource)
            .and_then(|counts| counts.get_mut(&(verb, code)))
        {
            *count += 1;
        } else if *series < SERIES {
            *series += 1;
            let counts = by_resource.entry(resource.to_owned()).or_default();
            counts.insert((verb, code), 1);
        }
    }

    /// Everything as text.
    pub(crate) fn text(&self, revision: u64) -> String {
        let mut text = String::from(
            "# HELP apiserver_request_total Requests by verb, resource and status code.\n# TYPE apiserver_request_total counter\n",
        );
        for (resource, counts) in &self.requests.lock().by_resource {
            let resource = resource.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            for ((verb, code), count) in counts {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "apiserver_request_total{{verb=\"{}\",resource=\"{resource}\",code=\"{code}\"}} {count}",
                    verb.to_ascii_uppercase()
                );
            }
        }
        text.push_str(
            "# HELP coracle_store_revision The newest revision of the store.\n# TYPE coracle_store_revision gauge\n",
        );
        let _ = writeln!(text, "coracle_store_revision {revision}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_printed() {
        let metrics = Metrics::default();
        metrics.count("get", "pods", 200);
        metrics.count("get", "pods", 200);
        let text = metrics.text(7);
        assert!(text.contains("apiserver_request_total{verb=\"GET\",resource=\"pods\",code=\"200\"} 2\n"));
        assert!(text.contains("coracle_store_revision 7\n"));
    }
}
