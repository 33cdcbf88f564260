//! Handing on: a store that stands before another one implements by hand what it changes, and the rest with this.

/// Implements traits of the port for a type that hands every call on to the store in its field `inner`.
///
/// `forward!(Type: ClarificationStore, UsageStore);` The crate that says so depends on `agentry-core` and `async-trait`.
#[macro_export]
macro_rules! forward {
    ($type:ty: $($concern:ident),+ $(,)?) => {
        $($crate::forward! { @$concern $type })+
    };
    (@ClarificationStore $type:ty) => {
        #[::async_trait::async_trait]
        impl $crate::ClarificationStore for $type {
            async fn resolve(
                &self,
                id: ::agentry_core::id::ClarificationId,
                resolution: ::agentry_core::clarification::Resolution,
            ) -> Result<$crate::Answered, $crate::StoreError> {
                self.inner.resolve(id, resolution).await
            }

            async fn clarification(
                &self,
                id: ::agentry_core::id::ClarificationId,
            ) -> Result<Option<::agentry_core::clarification::Clarification>, $crate::StoreError> {
                self.inner.clarification(id).await
            }

            async fn clarifications(
                &self,
                only_open: bool,
                after: Option<::agentry_core::id::ClarificationId>,
                limit: usize,
            ) -> Result<$crate::Page<::agentry_core::clarification::Clarification>, $crate::StoreError> {
                self.inner.clarifications(only_open, after, limit).await
            }

            async fn asked_in(
                &self,
                id: ::agentry_core::id::ClarificationId,
                thread: &str,
            ) -> Result<(), $crate::StoreError> {
                self.inner.asked_in(id, thread).await
            }

            async fn clarifications_in(
                &self,
                thread: &str,
                limit: usize,
            ) -> Result<Vec<::agentry_core::clarification::Clarification>, $crate::StoreError> {
                self.inner.clarifications_in(thread, limit).await
            }

            async fn expired_clarifications(
                &self,
                now: ::agentry_core::time::Timestamp,
                limit: usize,
            ) -> Result<Vec<::agentry_core::clarification::Clarification>, $crate::StoreError> {
                self.inner.expired_clarifications(now, limit).await
            }
        }
    };
    (@BudgetStore $type:ty) => {
        #[::async_trait::async_trait]
        impl $crate::BudgetStore for $type {
            async fn reserve(
                &self,
                reservation: $crate::Reservation,
            ) -> Result<$crate::Reserved, $crate::StoreError> {
                self.inner.reserve(reservation).await
            }

            async fn release(&self, call: ::agentry_core::id::CallId) -> Result<(), $crate::StoreError> {
                self.inner.release(call).await
            }
        }
    };
    (@RetentionStore $type:ty) => {
        #[::async_trait::async_trait]
        impl $crate::RetentionStore for $type {
            async fn prune(&self, horizon: $crate::Horizon) -> Result<u64, $crate::StoreError> {
                self.inner.prune(horizon).await
            }
        }
    };
    (@DeadLetterStore $type:ty) => {
        #[::async_trait::async_trait]
        impl $crate::DeadLetterStore for $type {
            async fn dead_letters(
                &self,
                only_open: bool,
                before: Option<::agentry_core::id::DeadLetterId>,
                limit: usize,
            ) -> Result<$crate::Page<$crate::DeadLetter>, $crate::StoreError> {
                self.inner.dead_letters(only_open, before, limit).await
            }

            async fn dead_letter(
                &self,
                id: ::agentry_core::id::DeadLetterId,
            ) -> Result<Option<$crate::DeadLetter>, $crate::StoreError> {
                self.inner.dead_letter(id).await
            }

            async fn edit_dead_letter(
                &self,
                id: ::agentry_core::id::DeadLetterId,
                payload: ::serde_json::Value,
            ) -> Result<bool, $crate::StoreError> {
                self.inner.edit_dead_letter(id, payload).await
            }

            async fn replay_dead_letter(
                &self,
                id: ::agentry_core::id::DeadLetterId,
                task: Option<std::sync::Arc<agentry_core::task::Task>>,
                now: ::agentry_core::time::Timestamp,
            ) -> Result<bool, $crate::StoreError> {
                self.inner.replay_dead_letter(id, task, now).await
            }

            async fn drop_dead_letter(
                &self,
                id: ::agentry_core::id::DeadLetterId,
            ) -> Result<bool, $crate::StoreError> {
                self.inner.drop_dead_letter(id).await
            }
        }
    };
    (@UsageStore $type:ty) => {
        #[::async_trait::async_trait]
        impl $crate::UsageStore for $type {
            async fn usage(
                &self,
                group: $crate::UsageGroup,
                from: ::agentry_core::time::Timestamp,
                to: ::agentry_core::time::Timestamp,
            ) -> Result<Vec<$crate::UsageRow>, $crate::StoreError> {
                self.inner.usage(group, from, to).await
            }

            async fn spent(
                &self,
                agent: &::agentry_core::agent::AgentName,
                from: ::agentry_core::time::Timestamp,
                to: ::agentry_core::time::Timestamp,
            ) -> Result<::agentry_core::money::NanoUsd, $crate::StoreError> {
                self.inner.spent(agent, from, to).await
            }

            async fn calls(
                &self,
                from: ::agentry_core::time::Timestamp,
                to: ::agentry_core::time::Timestamp,
                after: Option<$crate::CallCursor>,
                limit: usize,
            ) -> Result<$crate::Page<::agentry_core::money::LedgerRow>, $crate::StoreError> {
                self.inner.calls(from, to, after, limit).await
            }

            async fn ledger(
                &self,
                task: ::agentry_core::id::TaskId,
            ) -> Result<Vec<::agentry_core::money::LedgerRow>, $crate::StoreError> {
                self.inner.ledger(task).await
            }
        }
    };
    (@PulseStore $type:ty) => {
        #[::async_trait::async_trait]
        impl $crate::PulseStore for $type {
            async fn pulse(
                &self,
                since: ::agentry_core::time::Timestamp,
                limit: usize,
            ) -> Result<Vec<$crate::TaskPulse>, $crate::StoreError> {
                self.inner.pulse(since, limit).await
            }
        }
    };
    (@AccessStore $type:ty) => {
        #[::async_trait::async_trait]
        impl $crate::AccessStore for $type {
            async fn add_key(&self, key: &::agentry_core::access::ApiKey) -> Result<(), $crate::StoreError> {
                self.inner.add_key(key).await
            }

            async fn keys(&self) -> Result<Vec<::agentry_core::access::ApiKey>, $crate::StoreError> {
                self.inner.keys().await
            }

            async fn revoke_key(
                &self,
                key: ::agentry_core::id::KeyId,
                at: ::agentry_core::time::Timestamp,
            ) -> Result<bool, $crate::StoreError> {
                self.inner.revoke_key(key, at).await
            }

            async fn key_by_hash(
                &self,
                hash: ::agentry_core::access::KeyHash,
            ) -> Result<Option<::agentry_core::access::ApiKey>, $crate::StoreError> {
                self.inner.key_by_hash(hash).await
            }

            async fn key(
                &self,
                key: ::agentry_core::id::KeyId,
            ) -> Result<Option<::agentry_core::access::ApiKey>, $crate::StoreError> {
                self.inner.key(key).await
            }

            async fn has_keys(&self, now: ::agentry_core::time::Timestamp) -> Result<bool, $crate::StoreError> {
                self.inner.has_keys(now).await
            }

            async fn key_used(
                &self,
                key: ::agentry_core::id::KeyId,
                at: ::agentry_core::time::Timestamp,
            ) -> Result<(), $crate::StoreError> {
                self.inner.key_used(key, at).await
            }

            async fn add_browser_session(
                &self,
                session: &::agentry_core::access::BrowserSession,
            ) -> Result<bool, $crate::StoreError> {
                self.inner.add_browser_session(session).await
            }

            async fn browser_session(
                &self,
                hash: ::agentry_core::access::KeyHash,
            ) -> Result<Option<::agentry_core::access::BrowserSession>, $crate::StoreError> {
                self.inner.browser_session(hash).await
            }

            async fn end_browser_session(
                &self,
                hash: ::agentry_core::access::KeyHash,
            ) -> Result<bool, $crate::StoreError> {
                self.inner.end_browser_session(hash).await
            }

            async fn audit(&self, entry: &::agentry_core::access::AuditEntry) -> Result<(), $crate::StoreError> {
                self.inner.audit(entry).await
            }

            async fn audit_log(
                &self,
                before: Option<::agentry_core::id::AuditId>,
                limit: usize,
            ) -> Result<$crate::Page<::agentry_core::access::AuditEntry>, $crate::StoreError> {
                self.inner.audit_log(before, limit).await
            }
        }
    };
}
