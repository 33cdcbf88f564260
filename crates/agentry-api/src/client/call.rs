//! A request that is prepared, then awaited.

use std::future::IntoFuture;
use std::marker::PhantomData;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{Stream, TryStreamExt as _, try_unfold};
use reqwest::header::{CONTENT_TYPE, HeaderName};
use reqwest::{Method, Response, Url};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Client, Error};
use crate::list::List;

/// Rows of one page.
const PAGE: usize = 200;
/// The most pages per list, so that reading a growing list terminates.
const MAX_PAGES: usize = 1_000;

/// A request with a response of type `T`. It is sent when awaited.
#[must_use = "nothing is sent before it is awaited"]
#[derive(Debug)]
pub struct ApiCall<T> {
    client: Client,
    method: Method,
    url: Url,
    headers: Vec<(HeaderName, String)>,
    body: Option<Vec<u8>>,
    answer: PhantomData<fn() -> T>,
}

impl<T> Clone for ApiCall<T> {
    fn clone(&self) -> Self {
        let (client, method, url) = (self.client.clone(), self.method.clone(), self.url.clone());
        Self { client, method, url, headers: self.headers.clone(), body: self.body.clone(), answer: PhantomData }
    }
}

impl<T> ApiCall<T> {
    pub(super) fn new(client: Client, method: Method, url: Url) -> Self {
        Self { client, method, url, headers: Vec::new(), body: None, answer: PhantomData }
    }

    #[cfg(test)]
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn base(&self) -> &str {
        self.client.base()
    }

    /// Adds the fields of a query that have a value.
    pub fn query(mut self, query: &impl Serialize) -> Self {
        if let Ok(Value::Object(fields)) = serde_json::to_value(query) {
            for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                self.url.query_pairs_mut().append_pair(&name, &text);
            }
        }
        self
    }

    /// Adds a header, such as `idempotency-key` or `traceparent`.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((HeaderName::from_static(name), value.into()));
        self
    }

    /// Sends a value as JSON.
    pub fn json(self, body: &impl Serialize) -> Self {
        self.body("application/json", serde_json::to_vec(body).unwrap_or_default())
    }

    /// Sends these bytes, whatever they are.
    pub fn body(mut self, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        self.headers.push((CONTENT_TYPE, content_type.to_owned()));
        Self { body: Some(body.into()), ..self }
    }

    /// Reads the response as another type, such as [`Value`] for all fields of a newer server.
    pub fn answered_as<U>(self) -> ApiCall<U> {
        let Self { client, method, url, headers, body, .. } = self;
        ApiCall { client, method, url, headers, body, answer: PhantomData }
    }

    /// Sends the request; returns the response, whatever its status is.
    ///
    /// # Errors
    /// Fails when the server cannot be reached or the connection breaks.
    pub async fn response(self) -> Result<Response, Error> {
        let Self { client, method, url, headers, body, .. } = self;
        let mut request = client.http.request(method, url);
        if let Some(key) = &client.key {
            request = request.bearer_auth(key.expose_secret());
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.map_err(|error| Error::of_connection(client.base(), &error))
    }

    /// Sends the request; returns the response when it is a success.
    ///
    /// # Errors
    /// As [`Self::response`], and when the server refuses.
    pub async fn success(self) -> Result<Response, Error> {
        let client = self.client.clone();
        let response = self.response().await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.unwrap_or_default();
        Err(Error::of_response(client.base(), status, &headers, &body))
    }

    /// Sends the request; returns the body of a success.
    ///
    /// # Errors
    /// As [`Self::success`].
    pub async fn bytes(self) -> Result<Vec<u8>, Error> {
        let client = self.client.clone();
        let body = self.success().await?.bytes().await;
        body.map(Vec::from).map_err(|error| Error::of_connection(client.base(), &error))
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for ApiCall<T> {
    type Output = Result<T, Error>;
    type IntoFuture = BoxFuture<'static, Result<T, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            let base = self.base().to_owned();
            let body = self.bytes().await?;
            // An empty response is read as `null`.
            let body = if body.is_empty() { b"null" } else { &body[..] };
            serde_json::from_slice(body).map_err(|error| {
                let what = if error.is_data() {
                    format!("with something else than expected: {error}")
                } else {
                    "with something that is not JSON".to_owned()
                };
                Error::Foreign { base, what }
            })
        }
        .boxed()
    }
}

impl<T: DeserializeOwned + Send + 'static> ApiCall<List<T>> {
    /// Returns the first `limit` rows of a list, page by page.
    pub fn rows(self, limit: usize) -> impl Stream<Item = Result<T, Error>> {
        // The rows that are left and the cursor of the next page; `None` after the last one.
        let start = Some((self, None::<String>, limit, MAX_PAGES));
        let pages = try_unfold(start, |next| async move {
            let Some((call, cursor, left, pages)) = next else { return Ok(None) };
            let page = crate::PageQuery { cursor, limit: Some(left.min(PAGE)) };
            let List { mut items, next_cursor } = call.clone().query(&page).await?;
            items.truncate(left);
            let (left, pages) = (left - items.len(), pages - 1);
            let more = next_cursor.filter(|_| left > 0 && pages > 0 && !items.is_empty());
            let next = more.map(|cursor| (call, Some(cursor), left, pages));
            Ok::<_, Error>(Some((futures_util::stream::iter(items.into_iter().map(Ok)), next)))
        });
        pages.try_flatten()
    }

    /// Returns the first `limit` rows of a list.
    ///
    /// # Errors
    /// Fails when one of its pages cannot be had.
    pub async fn all(self, limit: usize) -> Result<Vec<T>, Error> {
        self.rows(limit).try_collect().await
    }
}
