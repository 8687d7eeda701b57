//! Does the limit on open files leave room for the connections that the settings allow?

use rustix::process::{Resource, getrlimit};

use super::check::Check;
use crate::config::Config;

const NAME: &str = "file descriptors";

/// For the store, listeners, log, lookups and notices.
const BESIDE: u64 = 128;

pub(super) fn look(config: &Config) -> Check {
    judged(
        getrlimit(Resource::Nofile).current,
        config.connections_max,
        config.in_flight_max,
    )
}

/// Every connection of a dispatcher is one, and every delivery under way may have one of its own.
fn judged(limit: Option<u64>, connections_max: usize, in_flight_max: usize) -> Check {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let needed = count(connections_max)
        .saturating_add(count(in_flight_max))
        .saturating_add(BESIDE);
    match limit {
        Some(limit) if limit < needed => Check::warning(
            NAME,
            format!("{limit} may be open; connections_max and in_flight_max can come to {needed}"),
            format!("allow as many (LimitNOFILE={needed} of a unit, or `ulimit -n {needed}`), or lower these settings"),
        ),
        Some(limit) => Check::ok(NAME, format!("{limit} may be open, {needed} can be needed")),
        None => Check::ok(NAME, "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_are_a_warning_on_one_side_of_what_is_needed_only() {
        for (limit, is_finding) in [(Some(1_127), true), (Some(1_128), false), (None, false)] {
            assert_eq!(judged(limit, 600, 400).is_finding(), is_finding, "{limit:?}");
        }
        assert!(judged(Some(u64::MAX - 1), usize::MAX, usize::MAX).is_finding());
    }
}
