//! The options that SQS adds to the portable ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_core::config::duration;

/// The options that `sqs://` adds to [`QueueOptions`](towpath_core::QueueOptions).
///
/// Credentials are no option: they come from the SDK's own chain (environment, profile, SSO, web
/// identity, container, instance). FIPS and dual-stack endpoints are switched on by the SDK's own
/// settings (`AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT`, or the profile).
///
/// | option | meaning | default |
/// |---|---|---|
/// | `region` | the AWS region | what the queue's URL or ARN says, else the SDK's own chain |
/// | `profile` | the profile of `~/.aws/config` | `AWS_PROFILE`, else `default` |
/// | `endpoint` | the address to connect to: a VPC endpoint, a proxy, a local server | the SDK's own chain (`AWS_ENDPOINT_URL_SQS`, the profile), else AWS |
/// | `owner` | the account that owns the queue, where it is not your own | your own |
/// | `request_timeout` | how long one request may take; a receive has its wait on top | `10s` |
///
/// With an `endpoint` on loopback, a region and credentials need not be there: `us-east-1` and a
/// fixed pair that no real service accepts stand in where the environment has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SqsOptions {
    /// The AWS region.
    pub region: Option<String>,
    /// The profile of `~/.aws/config`.
    pub profile: Option<String>,
    /// The address to connect to.
    pub endpoint: Option<String>,
    /// The account that owns the queue: 12 digits.
    pub owner: Option<String>,
    /// How long one request may take; a receive has its wait on top.
    #[serde(with = "duration")]
    pub request_timeout: Option<Duration>,
}
