//! The providers' prompt caches: which prefixes were read and written before, for how long.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::fingerprint::RequestPrint;
use super::prefix::{Chain, Keep, Link};
use super::prompt::TOKEN_CHARS;
use crate::server::lock;

/// Prefixes that are kept; one more clears all of them.
const MAX_PREFIXES: usize = 200_000;
/// Links before a breakpoint that are searched for an earlier prefix (Anthropic's documentation of prompt caching).
const LOOKBACK: usize = 20;
const FIVE_MINUTES: Duration = Duration::from_secs(300);
/// OpenAI keeps prefixes for 30 minutes from GPT-5.6 on.
const HALF_HOUR: Duration = Duration::from_secs(1_800);
const ONE_HOUR: Duration = Duration::from_secs(3_600);

/// How a provider caches the prefix of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum CacheRules {
    #[default]
    Off,
    /// At the breakpoints that the request marks.
    Marked { minimum_tokens: u64 },
    /// By itself; `bills_writes` says whether writes are counted.
    Automatic { minimum_tokens: u64, bills_writes: bool },
}

/// Tokens of one request that were read from the cache or written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CacheUse {
    pub(super) read: u64,
    pub(super) written: u64,
    /// The part of `written` that is kept for an hour.
    pub(super) written_1h: u64,
}

#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    /// Times of expiry by account and prefix.
    expiries: Mutex<HashMap<(RequestPrint, RequestPrint), Instant>>,
}

impl PrefixCache {
    /// Reads and writes the prefixes of one request. `account` is whoever shares prefixes.
    pub(super) fn take(&self, caching: CacheRules, account: RequestPrint, chain: &Chain, now: Instant) -> CacheUse {
        match caching {
            CacheRules::Off => CacheUse::default(),
            CacheRules::Marked { minimum_tokens } => self.marked(account, chain, minimum_tokens, now),
            CacheRules::Automatic { minimum_tokens, bills_writes } => {
                let found = self.automatic(account, chain, minimum_tokens, now);
                CacheUse { written: if bills_writes { found.written } else { 0 }, ..found }
            }
        }
    }

    fn marked(&self, account: RequestPrint, chain: &Chain, minimum: u64, now: Instant) -> CacheUse {
        let mut expiries = self.open();
        let marks: Vec<usize> =
            chain.links.iter().enumerate().filter(|(_, link)| link.mark.is_some()).map(|(at, _)| at).collect();
        let is_kept = |link: &Link| expiries.get(&(account, link.digest)).is_some_and(|expiry| *expiry > now);
        let found = marks.iter().rev().find_map(|mark| {
            let window = mark.saturating_sub(LOOKBACK)..=*mark;
            window.rev().find(|at| tokens(&chain.links[*at]) >= minimum && is_kept(&chain.links[*at]))
        });
        let mut usage = CacheUse { read: found.map_or(0, |at| tokens(&chain.links[at])), ..CacheUse::default() };
        let mut done = usage.read;
        for link in marks.iter().map(|mark| &chain.links[*mark]).filter(|link| tokens(link) >= minimum) {
            let is_long = link.mark == Some(Keep::OneHour);
            let written = tokens(link).saturating_sub(done);
            usage.written += written;
            usage.written_1h += if is_long { written } else { 0 };
            done = done.max(tokens(link));
            expiries.insert((account, link.digest), now + if is_long { ONE_HOUR } else { FIVE_MINUTES });
        }
        usage
    }

    fn automatic(&self, account: RequestPrint, chain: &Chain, minimum: u64, now: Instant) -> CacheUse {
        let mut expiries = self.open();
        let long = || chain.links.iter().rev().filter(|link| tokens(link) >= minimum);
        let kept = |link: &&Link| expiries.get(&(account, link.digest)).is_some_and(|expiry| *expiry > now);
        let read = long().find(kept).map_or(0, tokens);
        let written = long().next().map_or(0, tokens).saturating_sub(read);
        for link in long() {
            expiries.insert((account, link.digest), now + HALF_HOUR);
        }
        CacheUse { read, written, written_1h: 0 }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<(RequestPrint, RequestPrint), Instant>> {
        let mut expiries = lock(&self.expiries);
        if expiries.len() >= MAX_PREFIXES {
            expiries.clear();
        }
        expiries
    }
}

fn tokens(link: &Link) -> u64 {
    link.chars / TOKEN_CHARS as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain(texts: &[(&str, u64, Option<Keep>)]) -> Chain {
        let mut chain = Chain::default();
        for (text, tokens, mark) in texts {
            chain.message("user", &json!(text), tokens * 4, *mark);
        }
        chain
    }

    const MARKED: CacheRules = CacheRules::Marked { minimum_tokens: 1_024 };
    const SHORT: Option<Keep> = Some(Keep::FiveMinutes);

    #[test]
    fn a_marked_prefix_is_written_once_and_read_until_it_expires() {
        let (cache, account, start) = (PrefixCache::default(), RequestPrint::default(), Instant::now());
        let take = |texts: &[(&str, u64, Option<Keep>)], at| cache.take(MARKED, account, &chain(texts), at);
        let first = [("a", 2_000, Some(Keep::OneHour)), ("b", 100, SHORT)];
        assert_eq!(take(&first, start), CacheUse { read: 0, written: 2_100, written_1h: 2_000 });
        let longer = [("a", 2_000, Some(Keep::OneHour)), ("b", 100, None), ("c", 50, SHORT)];
        assert_eq!(take(&longer, start), CacheUse { read: 2_100, written: 50, written_1h: 0 });
        let late = start + FIVE_MINUTES + Duration::from_secs(1);
        assert_eq!(take(&longer, late), CacheUse { read: 2_000, written: 150, written_1h: 0 });
        let other = [("x", 2_000, Some(Keep::OneHour)), ("b", 100, SHORT)];
        assert_eq!(take(&other, start).read, 0);
        assert_eq!(take(&[("short", 1_000, SHORT)], start), CacheUse::default());
    }

    #[test]
    fn an_automatic_cache_reads_the_longest_prefix_of_the_same_account() {
        let (cache, start) = (PrefixCache::default(), Instant::now());
        let automatic = CacheRules::Automatic { minimum_tokens: 1_024, bills_writes: true };
        let take = |account: &str, texts: &[(&str, u64, Option<Keep>)]| {
            cache.take(automatic, RequestPrint::default().text(account), &chain(texts), start)
        };
        assert_eq!(
            take("a", &[("s", 1_500, None), ("q", 10, None)]),
            CacheUse { written: 1_510, ..CacheUse::default() }
        );
        let next = [("s", 1_500, None), ("q", 10, None), ("r", 20, None)];
        assert_eq!(take("a", &next), CacheUse { read: 1_510, written: 20, written_1h: 0 });
        assert_eq!(take("b", &next).read, 0);
        assert_eq!(take("a", &[("s", 1_500, None), ("other", 10, None)]).read, 1_500);
    }
}
