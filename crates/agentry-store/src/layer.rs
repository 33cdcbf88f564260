//! Layers: stores in front of another store that change some of its methods.
//!
//! Each trait of the port has a layer, whose methods forward the call by default. A type with all layers is a
//! [`StateStore`]:
//!
//! ```text
//! impl Layer for Patient { fn inner(&self) -> &dyn StateStore { &*self.inner } }
//! impl TaskLayer for Patient { async fn task(…) … }
//! impl SessionLayer for Patient {}
//! ```

use async_trait::async_trait;

use crate::table::names::*;
use crate::{StateStore, StoreError};

/// A store in front of another one.
pub trait Layer: Send + Sync + 'static {
    /// Returns the inner store.
    fn inner(&self) -> &dyn StateStore;
}

macro_rules! layers {
    ($($port:ident, $layer:ident {
        $(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty $([$($lent:ident),*])? $({$($option:ident),*})?;)*
    })*) => { $(
        #[doc = concat!("[`", stringify!($port), "`] that hands on what is not written otherwise.")]
        #[async_trait]
        pub trait $layer: Layer {
            $(
                #[doc = concat!("See [`", stringify!($port), "::", stringify!($name), "`].")]
                async fn $name(&self, $($arg: $ty),*) -> Result<$out, StoreError> {
                    self.inner().$name($($arg),*).await
                }
            )*
        }

        #[async_trait]
        impl<T: $layer> $port for T {
            $(
                async fn $name(&self, $($arg: $ty),*) -> Result<$out, StoreError> {
                    $layer::$name(self, $($arg),*).await
                }
            )*
        }
    )* };
}

crate::for_each_store_method!(layers);
