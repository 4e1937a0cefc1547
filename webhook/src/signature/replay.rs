//! Tokens that may be used only once.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

/// Remembers which request a token came with, so that the token serves for no other one.
///
/// A signature that does not cover the body ([`Mailgun`](super::mailgun::Mailgun)) must not be accepted with
/// a second body. The same request again is not a replay: providers send it again until they see a
/// success.
///
/// Tokens are remembered for as long as their signature is accepted. When there are more than the
/// store has room for, the oldest are forgotten, and no token signed at the same time or earlier is
/// accepted any more: the memory is bounded, and a token still serves only once. The store lives in
/// memory; a restart forgets it.
///
/// ```
/// use std::{num::NonZeroUsize, time::{Duration, SystemTime}};
/// use towpath_webhook::signature::replay::{TokenStore, TokenUse};
///
/// let tokens = TokenStore::new(NonZeroUsize::new(100_000).unwrap(), Duration::from_secs(9 * 3600));
/// let now = SystemTime::now();
/// assert_eq!(tokens.use_once("token", b"body", now, now), TokenUse::First);
/// assert_eq!(tokens.use_once("token", b"body", now, now), TokenUse::SameRequest);
/// assert_eq!(tokens.use_once("token", b"other", now, now), TokenUse::Reused);
/// ```
pub struct TokenStore {
    capacity: NonZeroUsize,
    window: Duration,
    state: Mutex<State>,
}

/// Whether a token may be used.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenUse {
    /// Not seen before: accept.
    First,
    /// Seen with the same body: the provider sends the request again. Accept; whether the event was
    /// processed is known elsewhere.
    SameRequest,
    /// Seen with another body: a forgery. Refuse.
    Reused,
    /// Signed so long ago that it may have been forgotten. Refuse.
    TooOld,
}

impl TokenUse {
    /// Whether the request may be accepted.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::First | Self::SameRequest)
    }
}

type Token = [u8; 32];
type Body = [u8; 32];

#[derive(Default)]
struct State {
    tokens: HashMap<Token, Body>,
    by_time: BTreeSet<(SystemTime, Token)>,
    /// The latest time at which a token was signed that was forgotten for want of room.
    forgotten: Option<SystemTime>,
}

impl TokenStore {
    /// A store for `capacity` tokens (about 200 bytes each), remembered for `window` after they
    /// were signed: the `past` of the verifier's [`Tolerance`](super::Tolerance).
    pub fn new(capacity: NonZeroUsize, window: Duration) -> Self {
        Self {
            capacity,
            window,
            state: Mutex::default(),
        }
    }

    /// Whether the token of a request with this `body`, signed at `signed_at`, may be used `now`.
    pub fn use_once(
        &self,
        token: &str,
        body: &[u8],
        signed_at: SystemTime,
        now: SystemTime,
    ) -> TokenUse {
        let token: Token = Sha256::digest(token).into();
        let body: Body = Sha256::digest(body).into();
        let mut state = self.lock();
        if let Some(oldest) = now.checked_sub(self.window) {
            while state.by_time.first().is_some_and(|(at, _)| *at < oldest) {
                state.forget_first();
            }
        }
        match state.tokens.get(&token) {
            Some(seen) if *seen == body => return TokenUse::SameRequest,
            Some(_) => return TokenUse::Reused,
            None => {}
        }
        if state
            .forgotten
            .is_some_and(|forgotten| signed_at <= forgotten)
        {
            return TokenUse::TooOld;
        }
        state.tokens.insert(token, body);
        state.by_time.insert((signed_at, token));
        if state.tokens.len() > self.capacity.get() {
            let forgotten = state.forget_first();
            state.forgotten = state.forgotten.max(forgotten);
        }
        TokenUse::First
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.lock().tokens.len()
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_first(&mut self) -> Option<SystemTime> {
        let (at, token) = self.by_time.pop_first()?;
        self.tokens.remove(&token);
        Some(at)
    }
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore")
            .field("capacity", &self.capacity)
            .field("window", &self.window)
            .field("len", &self.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const WINDOW: u64 = 300;

    fn store(capacity: usize) -> TokenStore {
        TokenStore::new(
            NonZeroUsize::new(capacity).unwrap(),
            Duration::from_secs(WINDOW),
        )
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_serves_for_one_body_within_the_window() {
        let tokens = store(10);
        assert_eq!(
            tokens.use_once("a", b"1", at(1_000), at(1_000)),
            TokenUse::First
        );
        assert_eq!(
            tokens.use_once("a", b"1", at(1_000), at(1_300)),
            TokenUse::SameRequest
        );
        assert_eq!(
            tokens.use_once("a", b"2", at(1_000), at(1_300)),
            TokenUse::Reused
        );
        // The time that comes with a token does not make it another one.
        assert_eq!(
            tokens.use_once("a", b"2", at(1_200), at(1_300)),
            TokenUse::Reused
        );
    }

    #[test]
    fn tokens_are_forgotten_after_the_window() {
        let tokens = store(10);
        for (i, token) in ["a", "b", "c"].into_iter().enumerate() {
            let signed_at = at(1_000 + i as u64);
            assert_eq!(
                tokens.use_once(token, b"1", signed_at, signed_at),
                TokenUse::First
            );
        }
        let _ = tokens.use_once("d", b"1", at(1_302), at(1_302));
        assert_eq!(tokens.len(), 2, "c and d");
        assert!(!tokens.is_empty());
    }

    #[test]
    fn a_full_store_forgets_the_oldest_and_accepts_nothing_as_old_again() {
        let tokens = store(2);
        for (token, seconds) in [("b", 1_010), ("a", 1_000), ("c", 1_020)] {
            let _ = tokens.use_once(token, b"1", at(seconds), at(1_020));
        }
        assert_eq!(tokens.len(), 2);
        assert_eq!(
            tokens.use_once("a", b"2", at(1_000), at(1_020)),
            TokenUse::TooOld
        );
        assert_eq!(
            tokens.use_once("b", b"1", at(1_010), at(1_020)),
            TokenUse::SameRequest
        );
        assert_eq!(
            tokens.use_once("z", b"1", at(1_001), at(1_020)),
            TokenUse::First
        );
    }

    #[test]
    fn one_of_many_racing_bodies_wins() {
        let tokens = store(100);
        let wins = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    let tokens = &tokens;
                    scope.spawn(move || tokens.use_once("a", &[i], at(1), at(1)).is_accepted())
                })
                .collect();
            threads
                .into_iter()
                .map(|t| usize::from(t.join().unwrap()))
                .sum::<usize>()
        });
        assert_eq!(wins, 1);
    }

    #[test]
    fn times_before_1970_and_huge_windows_are_no_trouble() {
        let tokens = TokenStore::new(NonZeroUsize::MIN, Duration::MAX);
        let early = UNIX_EPOCH - Duration::from_secs(1 << 40);
        assert_eq!(tokens.use_once("a", b"", early, early), TokenUse::First);
        assert_eq!(tokens.use_once("b", b"", at(0), early), TokenUse::First);
        assert_eq!(tokens.len(), 1);
    }
}
