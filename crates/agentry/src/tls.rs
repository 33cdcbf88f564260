//! TLS of the server: the files that the settings name, read once when it starts.

use agentry_config::Settings;
use agentry_server::Tls;

use crate::failure::Failure;

/// Returns the TLS configuration of the server; `None` for plain HTTP.
pub fn acceptor(settings: &Settings) -> Result<Option<Tls>, Failure> {
    let (certificate, key) = match (&settings.tls_cert, &settings.tls_key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => return Err(Failure::usage("tls-cert is set and tls-key is not").help("both or none")),
        (None, Some(_)) => return Err(Failure::usage("tls-key is set and tls-cert is not").help("both or none")),
    };
    let tls = Tls::from_files(certificate, key);
    tls.map(Some).map_err(|why| Failure::new(why).help("a PEM file as certificate authorities and openssl write them"))
}
