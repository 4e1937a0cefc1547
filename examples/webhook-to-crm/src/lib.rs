//! The main job of towpath, end to end: webhooks come in, wait in a queue, and are written to
//! another company's CRM, with failures retried and parked.
//!
//! ```text
//! POST /hooks/mailgun ──> queue of events ──> pipeline ──> queue of updates ──> updater ──> CRM
//! POST /forms/contact ─────────────────────────────────────────┘
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `webhooks.toml` | the public HTTP side: what is accepted, and which queue it goes to |
//! | [`pipeline`] | the first worker: from a Mailgun event to what the CRM is told |
//! | [`updater`] | the second worker: writes to the CRM until it succeeds |
//! | [`crm`] | the other side: a small fake CRM |
//! | [`events`] | made-up Mailgun events from a seed |
//! | [`replay`] | posts a file of events and proves that none was lost |
//! | [`serve`] | puts it all together |

pub mod crm;
pub mod events;
pub mod pipeline;
pub mod replay;
pub mod serve;
pub mod updater;
