//! A channel with confirms that many tasks publish on at once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};

use super::fault::{Fault, within};
use super::link::Link;
use crate::listeners::lock;

/// What is published.
pub(super) struct Message {
    pub key: ShortString,
    pub body: Vec<u8>,
    pub properties: BasicProperties,
}

/// A channel with confirms.
pub(super) struct Confirms {
    channel: Channel,
    /// Held while a publication gets its number and its place in the queue of frames. The client library does these
    /// one after the other, and the broker counts what arrives: without it two threads could get one another's confirm.
    order: Mutex<()>,
}

impl Confirms {
    /// A new channel on this connection.
    pub async fn open(link: &Link) -> Result<Self, Fault> {
        let channel = link.channel().await?;
        within("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { channel, order: Mutex::default() })
    }

    /// The channel, for everything but publications.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Publishes a mandatory message and waits for its confirm.
    pub async fn publish(&self, exchange: ShortString, message: &Message) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (key, properties) = (message.key.clone(), message.properties.clone());
        let mut sending = pin!(self.channel.basic_publish(exchange, key, options, &message.body, properties));
        // The number and the place are given before the first wait.
        let begun = poll_fn(|context| {
            let _order = lock(&self.order);
            Poll::Ready(sending.as_mut().poll(context))
        });
        let confirm = match begun.await {
            Poll::Ready(sent) => sent,
            Poll::Pending => sending.await,
        };
        confirm?.await
    }

    /// Lets the client library forget publications whose callers left.
    pub async fn forget_abandoned(&self) -> lapin::Result<()> {
        self.channel.wait_for_confirms().await.map(drop)
    }
}
