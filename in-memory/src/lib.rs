//! The in-memory backend of towpath: a strict simulator of a message queue.
