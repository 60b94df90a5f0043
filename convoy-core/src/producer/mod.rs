//! Sending in order.
