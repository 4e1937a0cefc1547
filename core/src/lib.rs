//! The contract of towpath: messages, leases, settlement and the driver traits that backends implement.
