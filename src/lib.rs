//! convoy
