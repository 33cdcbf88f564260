//! A channel with publisher confirms that many tasks share.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};

use super::broker_connection::BrokerConnection;
use super::fault::{Fault, within};
use crate::listeners::lock;

pub(super) struct Message {
    pub key: ShortString,
    pub body: Vec<u8>,
    pub properties: BasicProperties,
}

pub(super) struct Confirms {
    channel: Channel,
    /// Held while a publication gets its sequence number and its place in the frame queue. The client library does
    /// these one after the other while the broker counts arrivals, so without the lock two threads could get each
    /// other's confirm.
    order: Mutex<()>,
}

impl Confirms {
    pub async fn open(connection: &BrokerConnection) -> Result<Self, Fault> {
        let channel = connection.channel().await?;
        within("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { channel, order: Mutex::default() })
    }

    /// Returns the channel, for everything but publications.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Publishes a mandatory message and waits for its confirm.
    pub async fn publish(&self, exchange: ShortString, message: &Message) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (key, properties) = (message.key.clone(), message.properties.clone());
        let mut sending = pin!(self.channel.basic_publish(exchange, key, options, &message.body, properties));
        // Number and place are assigned before the first wait.
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

    /// Lets the client library forget publications whose callers were dropped.
    pub async fn forget_abandoned(&self) -> lapin::Result<()> {
        self.channel.wait_for_confirms().await.map(drop)
    }
}
