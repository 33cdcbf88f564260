//! Authentication and authorization. [`guard`] checks every request before its endpoint: the host and origin
//! ([`origin`]), the API key or session ([`verify`]), the scope that the route requires ([`policy`]), and the rate of the
//! key.
//!
//! A fresh installation has no key and requires none. As soon as one valid key exists, or the settings require it, every
//! route except probes and the files of the dashboard requires a key. Until then `Host` must not be a name that a web
//! page could have rebound to this server, wherever it listens.

pub(crate) mod guard;
pub(crate) mod key;
pub(crate) mod origin;
pub(crate) mod policy;
pub(crate) mod session;
pub(crate) mod trail;
pub(crate) mod verify;

pub use key::{NewKeyError, hash_of as key_hash, new_key};

use std::num::NonZeroU32;

use agentry_core::access::{KeyHash, Scope};
use agentry_core::id::KeyId;

/// The access settings of a server.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// True if a key is required even while none exists.
    pub required: bool,
    /// True if it listens on a loopback address only: `Host` must then name this machine.
    pub loopback: bool,
    /// True if it serves TLS: cookies are then `Secure`.
    pub tls: bool,
    /// Allowed values of `Host` besides the names of this machine, in lower case, without ports.
    pub hosts: Vec<String>,
    /// The most requests per second and key; `None` means no limit.
    pub rate: Option<NonZeroU32>,
    /// The hash of the key of this process, which has every scope and is not stored.
    pub own: Option<KeyHash>,
}

/// The authenticated caller of a request.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    /// The name of the key; `anybody` where none is required.
    pub(crate) name: String,
    /// The id of the key.
    pub(crate) key: Option<KeyId>,
    /// The scope of the key.
    pub(crate) scope: Scope,
    /// The CSRF token of the session, if the caller has one.
    pub(crate) csrf: Option<String>,
}

impl Principal {
    /// Returns the caller of a server that requires no key.
    pub(crate) fn anybody() -> Self {
        Self { name: "anybody".to_owned(), key: None, scope: Scope::Admin, csrf: None }
    }
}
