//! Checkers: what was promised, what came, and what that says. None of them believes the platform; each compares two
//! witnesses.

mod cost;
mod history;
mod queue;
mod sessions;
mod slots;

pub use cost::{BookedCall, check_cost};
pub use history::{History, HistoryError, OperationKind};
pub use queue::{QueueReport, check_queue};
pub use sessions::check_session;
pub use slots::{Slot, SlotReport, check_slots};
