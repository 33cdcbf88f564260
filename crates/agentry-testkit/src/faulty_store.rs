//! A store that is late, refuses, hangs, or executes a call and then reports a failure.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use agentry_core::fleet::AgentState;
use agentry_store::table::names::*;
use agentry_store::{StateStore, StoreError};
use async_trait::async_trait;

use crate::store_faults::Faults;
use crate::{Outage, SeededRng, StoreFaults};

/// A store with faults; see the module. A call that hangs is executed even when its caller's future is dropped.
pub struct FaultyStore {
    inner: Arc<dyn StateStore>,
    faults: Faults,
}

impl FaultyStore {
    /// Creates a store with faults in front of `inner`.
    pub fn new(inner: Arc<dyn StateStore>, dice: SeededRng, faults: StoreFaults) -> Arc<Self> {
        Arc::new(Self { inner, faults: Faults::new(dice, faults) })
    }

    /// Starts injecting faults again. A new store injects faults from the start.
    pub fn break_again(&self) {
        self.faults.set_active(true);
    }

    /// Stops injecting faults. Hanging calls still end in their time.
    pub fn heal(&self) {
        self.faults.set_active(false);
    }

    /// Starts an outage of this length, in the current runtime.
    pub fn begin_outage(&self, outage: Outage, length: Duration) {
        self.faults.outages.begin(outage, length);
    }

    /// Executes some of the hanging calls, which the server has, and drops the others. To be called when the runtime of
    /// the callers is gone, as after kill -9.
    pub async fn carry_out_orphans(&self) {
        self.faults.carry_out_orphans().await;
    }

    /// Returns the number of injections of each fault.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.faults.counts.all()
    }
}

/// Counts the observable properties of a call before its fate is decided.
macro_rules! observe {
    (put_agent_status($statuses:ident), $faults:expr) => {
        if $statuses.iter().any(|status| status.state == AgentState::Restarting) {
            $faults.counts.add("dispatcher.restarted");
        }
    };
    ($($other:tt)*) => {};
}

/// Implements the port: every call goes to the inner store through the faults. A call may outlive its caller, so it
/// owns its arguments.
macro_rules! pass_on {
    ($($port:ident, $layer:ident {
        $(
            fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty
                $([$($lent:ident),*])? $({$($option:ident),*})?;
        )*
    })*) => { $(
        #[async_trait]
        impl $port for FaultyStore {
            $(
                async fn $name(&self, $($arg: $ty),*) -> Result<$out, StoreError> {
                    observe!($name($($arg),*), self.faults);
                    $($(let $lent = $lent.to_owned();)*)?
                    $($(let $option = $option.map(ToOwned::to_owned);)*)?
                    let inner = Arc::clone(&self.inner);
                    let call = async move {
                        $($(let $lent = &$lent;)*)?
                        $($(let $option = $option.as_ref().map(Borrow::borrow);)*)?
                        inner.$name($($arg),*).await
                    };
                    self.faults.around(stringify!($name), call).await
                }
            )*
        }
    )* };
}

agentry_store::for_each_store_method!(pass_on);
