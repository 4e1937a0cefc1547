//! The program as a user runs it, and the receiver and the CRM over real HTTP.

mod crm;
mod program;
mod receiver;
