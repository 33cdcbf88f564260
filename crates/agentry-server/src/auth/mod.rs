//! Who may do what. Every request passes [`guard`] before its endpoint: the place it comes from ([`origin`]), the key or
//! session it brings ([`verify`]), the scope that its route needs ([`policy`]), and its key's rate.
//!
//! No key exists on a fresh laptop, and none is needed there. As soon as one key is good, or the settings demand it,
//! every route but the probes and the dashboard's own files asks for one. Until then `Host` must not be a name that a web
//! page could have pointed here, wherever the server listens.

pub(crate) mod guard;
pub(crate) mod key;
pub(crate) mod origin;
pub(crate) mod policy;
pub(crate) mod session;
pub(crate) mod trail;
pub(crate) mod verify;

pub use key::{hash_of as key_hash, new_key};

use std::num::NonZeroU32;

use agentry_core::access::{KeyHash, Scope};
use agentry_core::id::KeyId;

/// How a server decides who may do what.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// A key is needed even while none exists.
    pub required: bool,
    /// It listens on this machine only: `Host` must then name this machine.
    pub loopback: bool,
    /// It speaks TLS: cookies are for TLS only.
    pub tls: bool,
    /// Names besides this machine's that `Host` may have where it is checked, in lower case, without ports.
    pub hosts: Vec<String>,
    /// Requests that one key may make in a second; `None`: any number.
    pub rate: Option<NonZeroU32>,
    /// The key of the process that serves: it may do everything and is kept nowhere.
    pub own: Option<KeyHash>,
}

/// Who a request comes from.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The key's name; `anybody` where none is needed.
    pub(crate) name: String,
    /// The key.
    pub(crate) key: Option<KeyId>,
    /// What it may do.
    pub(crate) scope: Scope,
    /// Proves that a write comes from a page of this server; sessions only.
    pub(crate) csrf: Option<String>,
}

impl Caller {
    /// Whoever reaches a server that asks for no key.
    pub(crate) fn anybody() -> Self {
        Self { name: "anybody".to_owned(), key: None, scope: Scope::Admin, csrf: None }
    }
}
