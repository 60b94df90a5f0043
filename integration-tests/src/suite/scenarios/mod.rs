//! The scenarios, by concern.

mod basics;
mod bounds;
mod connections;
mod failing;
mod foreign;
mod leaving;
mod pulling;
mod rights;
mod routing;
mod sending;
mod settling;
mod turns;
mod watching;

use super::act::Act;
use super::run::Scenario;

/// Tells a scenario: its name, what it shows, and its steps.
macro_rules! scenario {
    ($name:literal, [$($shows:ident),*], $play:ident $(, needs [$($hook:ident),*])? $(, only $only:ident)? $(, wishes $wishes:expr)?) => {
        $crate::suite::run::Scenario {
            name: $name,
            shows: &[$(convoy_core::Guarantee::$shows),*],
            needs: &[$($($crate::suite::Hook::$hook),*)?],
            only: $crate::suite::scenarios::optional!($($crate::suite::Shape::$only)?),
            wishes: $crate::suite::scenarios::wishes!($($wishes)?),
            play: |act| Box::pin($play(act)),
        }
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! wishes {
    () => {
        $crate::suite::Wishes::default
    };
    ($wishes:expr) => {
        || $wishes
    };
}

use {optional, scenario, wishes};

/// All of them.
pub(super) fn all() -> Vec<Scenario> {
    [
        basics::ALL,
        bounds::ALL,
        connections::ALL,
        failing::ALL,
        foreign::ALL,
        leaving::ALL,
        pulling::ALL,
        rights::ALL,
        routing::ALL,
        sending::ALL,
        settling::ALL,
        turns::ALL,
        watching::ALL,
    ]
    .concat()
}
