//! What a member sees, with a deliberate defect perhaps: a simulation that finds none of them would show nothing.

use std::collections::BTreeSet;

use convoy_core::Moment;

use super::super::{Member, QUIET, Spread, Word};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// What stayed with the wrong member stays there.
    NeverCorrects,
    /// As it was until this simulation was written: a lane with the wrong member is moved as soon as that is seen, but once, and who comes again is nobody new.
    CorrectsOnce,
    /// What stayed with the wrong member is moved as soon as that is seen.
    CorrectsAtOnce,
    /// Whether an idle lane is its own is not asked.
    NeverProbes,
    /// Lanes move as soon as somebody comes.
    NotQuiet,
    /// Who is gone without a word is there for ever.
    ForgetsNobody,
    /// It registers again for what became its own, too.
    MovesItsOwn,
    /// It registers again for nothing that becomes another's.
    KeepsWhatItHas,
    /// Members rank each other differently.
    RanksByItself,
    /// Who came again with new registrations is taken for one that was there all the time.
    IgnoresJoin,
}

impl Defect {
    pub(super) const ALL: &[Self] = &[
        Self::NeverCorrects,
        Self::CorrectsOnce,
        Self::CorrectsAtOnce,
        Self::NeverProbes,
        Self::NotQuiet,
        Self::ForgetsNobody,
        Self::MovesItsOwn,
        Self::KeepsWhatItHas,
        Self::RanksByItself,
        Self::IgnoresJoin,
    ];
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) spread: Spread,
    defect: Option<Defect>,
    given_up: BTreeSet<u32>,
}

impl View {
    pub(super) fn new(me: Member, lanes: u32, defect: Option<Defect>) -> Self {
        Self { spread: Spread::new(me, lanes), defect, given_up: BTreeSet::new() }
    }

    pub(super) fn told(&mut self, from: Member, word: Word, now: Moment) -> Option<Word> {
        let from = if self.is(Defect::RanksByItself) { from.rotate_left(self.spread.me as u32 % 64) } else { from };
        let ignores_join = self.is(Defect::IgnoresJoin) || self.is(Defect::CorrectsOnce);
        let word_of = if ignores_join && word == Word::Join { Word::Hello } else { word };
        self.spread.told(from, word_of, now);
        (word == Word::Join).then_some(Word::Hello)
    }

    pub(super) fn tick(&mut self, now: Moment, has: impl Fn(u32) -> bool) -> Vec<u32> {
        let (before, shared_at) = (self.spread.owners.clone(), self.spread.shared_at);
        match self.defect {
            Some(Defect::NotQuiet) => self.spread.changed = self.spread.changed.map(|at| at - QUIET),
            Some(Defect::ForgetsNobody) => self.spread.heard.values_mut().for_each(|heard| *heard = now),
            _ => {}
        }
        if self.is(Defect::CorrectsAtOnce) || self.is(Defect::CorrectsOnce) {
            let wrong = (0..self.spread.lanes).filter(|lane| has(*lane) && !self.spread.is_mine(*lane));
            wrong.collect::<Vec<u32>>().into_iter().for_each(|lane| {
                self.spread.wrong.entry(lane).or_default().since = Some(Moment::ORIGIN);
            });
        }
        let has_not = self.is(Defect::NeverCorrects);
        let mut again = self.spread.tick(now, |lane| !has_not && has(lane));
        let shared = self.spread.shared_at != shared_at;
        match self.defect {
            Some(Defect::CorrectsOnce) if shared => self.given_up.clear(),
            Some(Defect::CorrectsOnce) => again.retain(|lane| self.given_up.insert(*lane)),
            Some(Defect::MovesItsOwn) if shared => {
                let moved = |lane: &u32| before[*lane as usize] != self.spread.owners[*lane as usize];
                again.extend((0..self.spread.lanes).filter(|lane| self.spread.is_mine(*lane) && moved(lane)));
            }
            Some(Defect::KeepsWhatItHas) => again.retain(|lane| !has(*lane)),
            _ => {}
        }
        again
    }

    pub(super) fn missing(&self, now: Moment, has: impl Fn(u32) -> bool) -> Vec<u32> {
        if self.is(Defect::NeverProbes) { Vec::new() } else { self.spread.missing(now, has) }
    }

    pub(super) fn forget(&mut self) {
        self.spread.forget();
        self.given_up.clear();
    }

    fn is(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}
