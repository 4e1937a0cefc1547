//! Which addresses may be connected to, checked after the name was resolved.

use std::{
    error::Error as StdError,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Ends a sentence about an address.
pub(crate) const NOT_PUBLIC: &str =
    "not a public address; set allow_private = true where this destination is meant to be internal";

/// Whether an address is one of the public internet.
///
/// Everything in the registries of special-purpose addresses is not ([IPv4], [IPv6]), with
/// loopback, private, link-local (metadata services), shared (carrier-grade NAT), multicast and
/// reserved among them, and neither is an IPv4 address within an IPv6 address, except behind the
/// well-known NAT64 prefix, where the IPv4 address decides.
///
/// [IPv4]: https://www.iana.org/assignments/iana-ipv4-special-registry
/// [IPv6]: https://www.iana.org/assignments/iana-ipv6-special-registry
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !matches!(
        ip.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            // Azure's metadata and platform service, reachable from its machines only.
            | [168, 63, 129, 16]
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments (Teredo among them), documentation, 6to4, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => {
            false
        }
        // Global unicast; all else is loopback, local, mapped, multicast or unassigned.
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

/// A name has no address that is allowed.
#[derive(Debug)]
pub(crate) struct Forbidden(String);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Forbidden {}

impl Forbidden {
    /// The refusal within the sources of `error`.
    pub(crate) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(forbidden) = error.downcast_ref() {
                return Some(forbidden);
            }
            cause = error.source();
        }
        None
    }
}

type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Resolves names, and hands out only the addresses that are allowed.
///
/// The client connects to what is handed out here and resolves nothing itself, so a name cannot
/// have one address when it is checked and another when it is used.
#[derive(Clone)]
pub(crate) struct Resolver {
    lookup: Arc<Lookup>,
    allow_private: bool,
}

impl Resolver {
    /// With the resolver of the system.
    pub(crate) fn system(allow_private: bool) -> Self {
        Self {
            lookup: Arc::new(|name| {
                Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
            }),
            allow_private,
        }
    }

    async fn addresses(
        self,
        name: String,
    ) -> Result<Vec<SocketAddr>, Box<dyn StdError + Send + Sync>> {
        let all = (self.lookup)(name.clone()).await?;
        if self.allow_private {
            return Ok(all);
        }
        let (public, other): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|address| is_public(address.ip()));
        match (public.is_empty(), other.first()) {
            (true, Some(address)) => Err(Box::new(Forbidden(format!(
                "{name} has the address {}, which is {NOT_PUBLIC}",
                address.ip()
            )))),
            _ => Ok(public),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.clone().addresses(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(addresses.await?.into_iter()) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn special_addresses_are_not_public() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.1.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    fn resolver(answers: &'static [&'static [&'static str]]) -> Resolver {
        let calls = AtomicUsize::new(0);
        Resolver {
            lookup: Arc::new(move |_| {
                let answer = answers[calls.fetch_add(1, Relaxed)];
                Box::pin(async move {
                    Ok(answer
                        .iter()
                        .map(|ip| SocketAddr::new(ip.parse().unwrap(), 0))
                        .collect())
                })
            }),
            allow_private: false,
        }
    }

    #[tokio::test]
    async fn a_name_that_changes_its_address_is_refused_when_it_does() {
        let resolver = resolver(&[&["8.8.8.8"], &["127.0.0.1"]]);
        let name = || "crm.example".to_owned();
        assert!(resolver.clone().addresses(name()).await.is_ok());
        let error = resolver.addresses(name()).await.unwrap_err();
        let shown = Forbidden::find(&*error).unwrap().to_string();
        assert!(
            shown.contains("127.0.0.1") && shown.contains("allow_private"),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn only_the_public_addresses_of_a_name_are_handed_out() {
        let resolver = resolver(&[&["10.0.0.1", "8.8.8.8", "::1"]]);
        let addresses = resolver.addresses("crm.example".into()).await.unwrap();
        assert_eq!(addresses, ["8.8.8.8:0".parse().unwrap()]);
    }
}
