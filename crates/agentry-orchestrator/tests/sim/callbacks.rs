//! A receiver of callbacks that fails now and then, also after it took one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use agentry_core::id::OutboxId;
use agentry_core::time::Timestamp;
use agentry_orchestrator::{CallbackError, CallbackSender};
use agentry_testkit::SeededRng;
use async_trait::async_trait;
use serde_json::Value;

pub struct CallbackReceiver {
    dice: SeededRng,
    faulty: AtomicBool,
    bodies: Mutex<Vec<(OutboxId, Value)>>,
}

impl CallbackReceiver {
    pub fn new(dice: SeededRng) -> Arc<Self> {
        Arc::new(Self { dice, faulty: true.into(), bodies: Mutex::default() })
    }

    pub fn set_faulty(&self, faulty: bool) {
        self.faulty.store(faulty, Ordering::SeqCst);
    }

    pub fn bodies(&self) -> Vec<(OutboxId, Value)> {
        self.bodies.lock().expect("callbacks").clone()
    }
}

#[async_trait]
impl CallbackSender for CallbackReceiver {
    async fn post(
        &self,
        _url: &str,
        id: OutboxId,
        _at: Timestamp,
        traceparent: Option<&str>,
        payload: &Value,
    ) -> Result<(), CallbackError> {
        assert!(traceparent.is_some(), "a task's callback belongs to the task's trace");
        let faulty = self.faulty.load(Ordering::SeqCst);
        if faulty && self.dice.happens(0.1) {
            return Err(CallbackError("injected: refused".to_owned()));
        }
        self.bodies.lock().expect("callbacks").push((id, payload.clone()));
        if faulty && self.dice.happens(0.1) {
            return Err(CallbackError("injected: the answer was lost".to_owned()));
        }
        Ok(())
    }
}
