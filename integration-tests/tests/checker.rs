//! The checker is itself tested: each fatal name by a lying history that makes it, and only it,
//! fire; each exception by a correct history that a naive rule would have flagged; both at random.

#![allow(unreachable_pub, reason = "modules of one test target")]

#[path = "checker/files.rs"]
mod files;
#[path = "checker/lies.rs"]
mod lies;
#[path = "checker/random.rs"]
mod random;
#[path = "checker/samples.rs"]
mod samples;
#[path = "checker/story.rs"]
mod story;
#[path = "checker/truths.rs"]
mod truths;
#[path = "checker/truths_right.rs"]
mod truths_right;
#[path = "checker/truths_sent.rs"]
mod truths_sent;
#[path = "checker/truths_settled.rs"]
mod truths_settled;
