//! [`SessionStore`] behind the cache: messages are checked against a recent record of the session.

use std::collections::BTreeMap;

use agentry_core::id::WorkerId;
use agentry_core::session::{SessionId, SessionMessage};
use agentry_core::time::Timestamp;
use async_trait::async_trait;
use redis::Pipeline;

use super::fills::Fill;
use super::keys::{CHUNK, chunk};
use super::proofs::{DELETE_WAIT, Moment, Proof, SessionLife};
use super::redis_link::RedisReply;
use super::stats::{Answer, ReadKind};
use super::{CachedStore, encode};
use crate::layer::SessionLayer;
use crate::{Advance, MAX_PAGE, SessionClaim, SessionView, StoreError};

/// Largest number of messages per read from Redis; a longer range is read from the store. Windows are far shorter.
const MAX_RANGE: u64 = 512;
/// Largest number of hashes of a deleted session that are removed: the newest ones. Older ones expire.
const MAX_REMOVED: u64 = 256;

/// Messages that a write appends, encoded before the write takes them.
pub(super) struct TurnMessages {
    session: SessionId,
    life: SessionLife,
    messages: Vec<(u64, Vec<u8>)>,
}

impl TurnMessages {
    /// Returns the messages of a write, if their numbers are known. Every write to a session must pass here before the
    /// store sees it.
    pub(super) fn of(cache: &CachedStore, advance: &Advance) -> Option<Self> {
        let write = advance.session.as_ref()?;
        let (life, first) = cache.turns.begin(&advance.lease, write)?;
        if !cache.link.is_up() {
            return None;
        }
        let encoded = (first..).zip(&write.messages).filter_map(|(number, message)| {
            let (task, message) = (advance.lease.task, message.clone());
            encode(&SessionMessage { number, task, at: advance.at, message }).map(|bytes| (number, bytes))
        });
        Some(Self { session: write.session.clone(), life, messages: encoded.collect() })
    }

    /// Writes them in the background once the store has accepted them.
    pub(super) fn fill(self, cache: &CachedStore) {
        cache.fill_messages(&self.session, self.life, self.messages);
    }
}

impl CachedStore {
    fn fill_messages(&self, session: &SessionId, life: SessionLife, messages: Vec<(u64, Vec<u8>)>) {
        let mut chunks: BTreeMap<u64, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
        for (number, bytes) in messages {
            chunks.entry(chunk(number)).or_default().push((number, bytes));
        }
        for (chunk, fields) in chunks {
            self.fills.put(Fill::Fields { key: self.keys.messages(session, life, chunk), fields });
        }
    }

    /// Returns the messages `after + 1 ..= last` of a life, when Redis has all of them.
    async fn range(
        &self,
        session: &SessionId,
        life: SessionLife,
        after: u64,
        last: u64,
    ) -> Option<Vec<SessionMessage>> {
        let mut get = Pipeline::new();
        let mut first = after + 1;
        while first <= last {
            let end = last.min((chunk(first) + 1) * CHUNK);
            let fields: Vec<u64> = (first..=end).collect();
            get.cmd("HMGET").arg(self.keys.messages(session, life, chunk(first))).arg(fields);
            first = end + 1;
        }
        let (found, answer) = match self.link.query_timed::<Vec<Vec<Option<Vec<u8>>>>>(&get).await {
            RedisReply::Answer(chunks) => {
                let values = chunks.into_iter().flatten().zip(after + 1..);
                let decode = |(bytes, number): (Option<Vec<u8>>, u64)| {
                    bytes.and_then(|bytes| self.decode::<SessionMessage>(&bytes)).filter(|kept| kept.number == number)
                };
                let found = values.map(decode).collect::<Option<Vec<_>>>();
                let found = found.filter(|found| found.len() as u64 == last - after);
                let answer = if found.is_some() { Answer::Hit } else { Answer::Miss };
                (found, answer)
            }
            RedisReply::Failed => (None, Answer::Miss),
            RedisReply::Unavailable => (None, Answer::Bypass),
        };
        self.counters.read(ReadKind::Messages, answer);
        found
    }

    /// Writes a range from the store that ends with the last message of a proof. When that message was written at the
    /// proof's last update of the session, the range belongs to the proved life: the store read it at once.
    fn fill_range(&self, session: &SessionId, proof: &Proof, messages: &[SessionMessage]) {
        let last = messages.last();
        if last.is_some_and(|last| last.number == proof.messages && last.at == proof.updated_at) && self.link.is_up() {
            let encoded = messages.iter().filter_map(|message| Some((message.number, encode(message)?)));
            self.fill_messages(session, proof.life, encoded.collect());
        }
    }

    /// Returns the keys of a session that is about to be deleted. Missing some of them is harmless.
    async fn keys_of(&self, session: &SessionId) -> Vec<String> {
        if !self.link.is_up() {
            return Vec::new();
        }
        let Ok(Some(view)) = self.inner.session(session).await else { return Vec::new() };
        let (life, count) = (SessionLife(view.record.created_at), view.record.messages.div_ceil(CHUNK));
        (count.saturating_sub(MAX_REMOVED)..count).map(|chunk| self.keys.messages(session, life, chunk)).collect()
    }
}

#[async_trait]
impl SessionLayer for CachedStore {
    async fn claim_session(
        &self,
        worker: WorkerId,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<SessionClaim, StoreError> {
        let asked = Moment::now();
        let claim = self.inner.claim_session(worker, session, now).await?;
        if let SessionClaim::Claimed { claimed, session } = &claim {
            self.proofs.remember(session, asked);
            self.turns.claimed(&claimed.lease, session);
        }
        Ok(claim)
    }

    /// Cached for a range that a recent record of the session proves complete.
    async fn messages(&self, session: &SessionId, after: u64, limit: usize) -> Result<Vec<SessionMessage>, StoreError> {
        let last = after.saturating_add(limit.min(MAX_PAGE) as u64);
        let proof = self.proofs.holding(session).filter(|proof| after < last && last <= proof.messages);
        let Some(proof) = proof.filter(|_| last - after <= MAX_RANGE) else {
            self.counters.read(ReadKind::Messages, Answer::Bypass);
            return self.inner.messages(session, after, limit).await;
        };
        if let Some(messages) = self.range(session, proof.life, after, last).await {
            return Ok(messages);
        }
        let messages = self.inner.messages(session, after, limit).await?;
        self.fill_range(session, &proof, &messages);
        Ok(messages)
    }

    async fn session(&self, session: &SessionId) -> Result<Option<SessionView>, StoreError> {
        let asked = Moment::now();
        let view = self.inner.session(session).await?;
        match &view {
            Some(view) => self.proofs.remember(&view.record, asked),
            None => self.proofs.forget(session),
        }
        Ok(view)
    }

    /// Acknowledged [`DELETE_WAIT`] after the commit: until then another process may rely on an earlier record of the
    /// session.
    async fn delete_session(&self, session: &SessionId) -> Result<bool, StoreError> {
        let keys = self.keys_of(session).await;
        let deleted = self.inner.delete_session(session).await?;
        if deleted {
            self.proofs.forget(session);
            if !keys.is_empty() {
                self.fills.put(Fill::Remove { keys });
            }
            tokio::time::sleep(DELETE_WAIT).await;
        }
        Ok(deleted)
    }
}
