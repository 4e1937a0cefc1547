//! An idempotency store that several worker processes share, on Redis: a key for each message,
//! which is claimed with `SET key owner NX PX limit`.
//!
//! A key is one of three things: missing (nobody has handled the message, or its claim timed out),
//! the owner of a claim, or `DONE`. What looks at a key and changes it is one script, and Redis
//! runs a script as one step.

use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue, RedisError, aio::ConnectionManager};
use towpath_core::{Error, ErrorKind, Result};
use towpath_worker::layers::{Claim, IdempotencyStore};
use uuid::Uuid;

/// The value of a key whose message was handled.
const DONE: &str = "done";

/// 0: claimed. 1: handled before. 2: held by another.
const CLAIM: &str = "
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
if redis.call('GET', KEYS[1]) == 'done' then return 1 end
return 2";

const ABANDON: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

/// Remembers in Redis which messages were handled. Cloning is cheap; clones share a connection,
/// which is made again when it breaks.
///
/// A Redis that forgets (eviction, a failover that loses the last second) makes a repeated delivery
/// be handled again, as if there were no store: give it `maxmemory-policy noeviction`.
#[derive(Clone)]
pub struct RedisStore {
    connection: ConnectionManager,
    ttl: Duration,
}

impl RedisStore {
    /// Connects to `url`, for instance `redis://127.0.0.1:6379`, and remembers handled messages for
    /// `ttl`: longer than a message can come back.
    ///
    /// # Errors
    ///
    /// When the URL is none, or nobody answers there.
    pub async fn connect(url: &str, ttl: Duration) -> Result<Self> {
        let client = redis::Client::open(url).map_err(failed)?;
        let connection = ConnectionManager::new(client).await.map_err(failed)?;
        Ok(Self { connection, ttl })
    }

    async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        // A clone is a handle on the same connection.
        let mut connection = self.connection.clone();
        command.query_async(&mut connection).await.map_err(failed)
    }
}

#[async_trait]
impl IdempotencyStore for RedisStore {
    async fn claim(&self, key: &str, owner: Uuid, limit: Duration) -> Result<Claim> {
        let mut command = redis::cmd("EVAL");
        command.arg(CLAIM).arg(1).arg(name(key));
        command.arg(owner.to_string()).arg(millis(limit));
        Ok(match self.call::<u8>(&command).await? {
            0 => Claim::Claimed,
            1 => Claim::Completed,
            _ => Claim::Held,
        })
    }

    async fn complete(&self, key: &str, _owner: Uuid) -> Result<()> {
        let mut command = redis::cmd("SET");
        command.arg(name(key)).arg(DONE);
        command.arg("PX").arg(millis(self.ttl));
        self.call(&command).await
    }

    async fn abandon(&self, key: &str, owner: Uuid) -> Result<()> {
        let mut command = redis::cmd("EVAL");
        command.arg(ABANDON).arg(1).arg(name(key));
        command.arg(owner.to_string());
        self.call::<u8>(&command).await?;
        Ok(())
    }
}

/// The key in Redis, among those of other programs.
fn name(key: &str) -> String {
    format!("towpath:handled:{key}")
}

/// Redis wants at least one.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Whatever Redis reports, the attempt is tried again; the message stays in the queue.
fn failed(error: RedisError) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("Redis, which remembers the handled messages: {error}"),
    )
    .with_source(error)
}
