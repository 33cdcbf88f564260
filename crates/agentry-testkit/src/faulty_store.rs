//! A store that is late, refuses, hangs, or does what it is asked and then says that it did not.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use agentry_core::fleet::AgentState;
use agentry_store::table::names::*;
use agentry_store::{StateStore, StoreError};
use async_trait::async_trait;

use crate::store_faults::Faults;
use crate::{Dice, Outage, StoreFaults};

/// See the module. A call that hangs is carried out even when its caller's future is dropped.
pub struct FaultyStore {
    inner: Arc<dyn StateStore>,
    faults: Faults,
}

impl FaultyStore {
    /// A store with faults in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn StateStore>, dice: Dice, faults: StoreFaults) -> Arc<Self> {
        Arc::new(Self { inner, faults: Faults::new(dice, faults) })
    }

    /// Begins to inject faults (again). A new store does so from the start.
    pub fn break_again(&self) {
        self.faults.set_active(true);
    }

    /// Injects no faults from here on. Calls that hang already come to their end in their own time.
    pub fn heal(&self) {
        self.faults.set_active(false);
    }

    /// Begins an outage of this length, in the runtime that this is called in.
    pub fn begin_outage(&self, outage: Outage, length: Duration) {
        self.faults.outages.begin(outage, length);
    }

    /// To be called when the runtime of the callers is gone, as after kill -9: of the calls that hung, which the server
    /// has, some are carried out and the others are lost.
    pub async fn carry_out_orphans(&self) {
        self.faults.carry_out_orphans().await;
    }

    /// Returns how often each fault was injected.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.faults.counts.all()
    }
}

/// Counts what a call shows before it meets its fate.
macro_rules! observe {
    (put_agent_status($statuses:ident), $faults:expr) => {
        if $statuses.iter().any(|status| status.state == AgentState::Restarting) {
            $faults.counts.add("dispatcher.restarted");
        }
    };
    ($($other:tt)*) => {};
}

/// Implements the port: every call goes to the inner store through the faults. A call may outlive its caller, so it owns
/// what it was lent.
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
