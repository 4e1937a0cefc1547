//! Choosing free loopback ports.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// Below the ranges from which Linux (32768 and up) and macOS (49152 and up) take the local ports
/// of outgoing connections, so that none of those can take a port between its choice here and the
/// moment the server binds it.
const CANDIDATES: Range<u16> = 20_000..32_000;

/// A loopback port that nothing listens on.
///
/// # Errors
///
/// When every candidate port is taken.
pub(crate) fn free(taken: &[u16]) -> Result<u16> {
    // Two runs at the same time should not walk through the same ports.
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.subsec_nanos());
    let seed = seed.wrapping_add(std::process::id().wrapping_mul(7919));
    choose(CANDIDATES, seed, |port| {
        !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
    })
    .with_context(|| {
        format!(
            "no free loopback port from {} to {}",
            CANDIDATES.start,
            CANDIDATES.end - 1
        )
    })
}

/// The first usable port of `range`, starting at a place that `seed` picks and wrapping around.
fn choose(range: Range<u16>, seed: u32, mut usable: impl FnMut(u16) -> bool) -> Option<u16> {
    let count = u32::from(range.end.saturating_sub(range.start));
    (0..count)
        .filter_map(|step| {
            let offset = u16::try_from((seed % count + step) % count).ok()?;
            Some(range.start + offset)
        })
        .find(|&port| usable(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_where_the_seed_says() {
        assert_eq!(choose(100..110, 3, |_| true), Some(103));
        assert_eq!(choose(100..110, 13, |_| true), Some(103));
        assert_eq!(choose(100..110, u32::MAX, |_| true), Some(105));
    }

    #[test]
    fn passes_over_unusable_ports_and_wraps_around() {
        assert_eq!(choose(100..110, 8, |port| port == 101), Some(101));
    }

    #[test]
    fn tries_every_port_once_before_giving_up() {
        let mut tried = Vec::new();
        let chosen = choose(100..105, 2, |port| {
            tried.push(port);
            false
        });
        assert_eq!(chosen, None);
        assert_eq!(tried, [102, 103, 104, 100, 101]);
    }

    #[test]
    fn an_empty_range_has_no_port() {
        assert_eq!(choose(100..100, 1, |_| true), None);
    }

    #[test]
    fn a_port_in_use_is_not_chosen() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let used = listener.local_addr().expect("its address").port();
        let chosen = choose(used..used + 1, 0, |port| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        assert_eq!(chosen, None);
    }
}
