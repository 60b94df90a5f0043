//! The checker is itself tested: each fatal name by a lying history that makes it, and only it,
//! fire; each exception by a correct history that a naive rule would have flagged; both at random.

#![allow(unreachable_pub, reason = "modules of one test target")]
#[path = "checker/files.rs"]
mod files;
#[path = "checker/lies.rs"]
mod lies;
#[path = "checker/random.rs"]
mod random;
#[path = "checker/story.rs"]
mod story;
#[path = "checker/truths.rs"]
mod truths;
