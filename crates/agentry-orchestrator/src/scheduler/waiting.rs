//! Buffered slots (`buffer_one`) have no row in the store. A process that starts finds them by the rows of the slots
//! that were skipped because of them.

use agentry_core::schedule::{MAX_CATCHUP_SLOTS, Overlap, ScheduleRecord};
use agentry_core::time::Timestamp;
use agentry_store::{SlotState, StoreError};

use super::table::Table;
use crate::context::Context;

/// Returns the buffered slot of a schedule that this process did not fire before.
pub(super) async fn recall(
    ctx: &Context,
    table: &Table,
    record: &ScheduleRecord,
) -> Result<Option<Timestamp>, StoreError> {
    let may_wait = record.spec.overlap == Overlap::BufferOne && record.skipped > 0 && !record.paused;
    if may_wait && !table.fires(&record.name) { waiting_slot(ctx, record).await } else { Ok(None) }
}

/// Returns the slot without a row just before those that were skipped last.
async fn waiting_slot(ctx: &Context, record: &ScheduleRecord) -> Result<Option<Timestamp>, StoreError> {
    let mut rows = ctx.store.slots(&record.name, MAX_CATCHUP_SLOTS).await?;
    // Later slots were fired manually.
    rows.retain(|row| record.last_slot.is_some_and(|last| row.slot <= last));
    // A pause drops a buffered slot, and moves `last_slot` beyond the rows.
    if rows.first().map(|row| row.slot) != record.last_slot {
        return Ok(None);
    }
    let skipped = rows.iter().take_while(|row| row.state == SlotState::Skipped).count();
    let (Some(oldest_skipped), Some(before)) = (rows[..skipped].last(), rows.get(skipped)) else { return Ok(None) };
    let Ok(slots) = record.spec.timing.slots(ctx.now()) else { return Ok(None) };
    let just_before = Timestamp(oldest_skipped.slot.0 - 1);
    Ok(slots.between(before.slot, just_before, MAX_CATCHUP_SLOTS).pop())
}
