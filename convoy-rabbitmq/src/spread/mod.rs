//! How the lanes of a group are spread over its members: a pure state machine, told who was heard and when.
//!
//! The broker alone decides who may take a lane's messages (its single active consumer): this is for balance only, and a wrong view of the members costs nothing else.
//! The broker takes whoever registered first, so the way to move a lane is that everybody but its new owner registers again, behind it.

#[cfg(test)]
mod simulated;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use convoy_core::Moment;

/// A member: one consumer of the group, in some process.
pub(crate) type Member = u128;

/// What members say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It is there.
    Hello,
    /// It has come, perhaps again: it is registered for every lane, and wants to hear who else is there.
    Join,
    /// It goes.
    Bye,
}

/// How often a member says that it is there.
pub(crate) const HELLO_EVERY: Duration = Duration::from_millis(500);
/// A member that was not heard for so long is gone.
pub(crate) const SILENT_AFTER: Duration = Duration::from_millis(2_000);

/// So long nothing more has to be heard of before lanes move: members that come together move them once.
const QUIET: Duration = Duration::from_millis(300);
/// So long a member may have a lane that is another's; then it registers again. Longer than it takes until who is gone without a word is missed: what such a member had is shared out then, and moves once.
const WRONG_FOR: Duration = Duration::from_millis(2_500);
/// Whenever that did not help it is so much longer, up to eighty seconds: the owner may be unable to take the lane, for ever or only by now.
const LONGER: (u32, u32) = (2, 5);

/// So long after lanes moved their old owners have registered again.
const PROBED_AFTER: Duration = Duration::from_secs(1);

/// Who is there, as one member sees it, and whose lane is whose.
#[derive(Debug)]
pub(crate) struct Spread {
    me: Member,
    lanes: u32,
    heard: BTreeMap<Member, Moment>,
    owners: Vec<Member>,
    /// When the members changed, while that has moved no lane yet.
    changed: Option<Moment>,
    /// When lanes were shared out last.
    shared_at: Moment,
    /// The lanes that this member had since then though they are another's.
    wrong: BTreeMap<u32, Wrong>,
    /// Who came since then, perhaps again: its registrations are new.
    came: BTreeSet<Member>,
}

/// A lane that is with this member, or was, though it is another's.
#[derive(Clone, Copy, Debug, Default)]
struct Wrong {
    since: Option<Moment>,
    given_up: u32,
}

impl Wrong {
    fn patience(self) -> Duration {
        let (factor, most) = LONGER;
        WRONG_FOR * factor.pow(self.given_up.min(most))
    }
}

impl Spread {
    pub(crate) fn new(me: Member, lanes: u32) -> Self {
        let owners = vec![me; lanes as usize];
        let (changed, shared_at) = (None, Moment::ORIGIN);
        let (heard, wrong, came) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { me, lanes, heard, owners, changed, shared_at, wrong, came }
    }

    /// Takes what somebody said, and gives the answer to it.
    pub(crate) fn told(&mut self, from: Member, word: Word, now: Moment) -> Option<Word> {
        match word {
            Word::Bye => self.left(from, now),
            Word::Hello => self.heard(from, now),
            Word::Join => self.came(from, now),
        }
        (word == Word::Join).then_some(Word::Hello)
    }

    /// Somebody said that it is there.
    fn heard(&mut self, member: Member, now: Moment) {
        if member != self.me && self.heard.insert(member, now).is_none() {
            self.changed = Some(now);
        }
    }

    /// Somebody came. One that is known has lost its connection and come again, sooner than it was missed: it stands behind all others now.
    fn came(&mut self, member: Member, now: Moment) {
        if member != self.me {
            self.heard.insert(member, now);
            self.came.insert(member);
            self.changed = Some(now);
        }
    }

    /// Somebody left.
    fn left(&mut self, member: Member, now: Moment) {
        if self.heard.remove(&member).is_some() {
            self.changed = Some(now);
        }
    }

    /// Forgets who was silent for too long, and gives the lanes to register for again: those whose owner changed, and those that this member has though they are another's.
    pub(crate) fn tick(&mut self, now: Moment, has: impl Fn(u32) -> bool) -> Vec<u32> {
        let before = self.heard.len();
        self.heard.retain(|_, heard| now.since(*heard) < SILENT_AFTER);
        if self.heard.len() != before {
            self.changed = Some(now);
        }
        match self.changed {
            Some(at) if now.since(at) >= QUIET => self.share_out(now),
            Some(_) => Vec::new(),
            None => self.correct(now, has),
        }
    }

    /// The lanes that should be this member's by now, and are not known to be.
    pub(crate) fn missing(&self, now: Moment, has: impl Fn(u32) -> bool) -> Vec<u32> {
        let settled = self.changed.is_none() && now.since(self.shared_at) >= PROBED_AFTER;
        (0..self.lanes).filter(|lane| settled && self.is_mine(*lane) && !has(*lane)).collect()
    }

    /// Whether this lane is this member's by now, or may become it.
    pub(crate) fn expects(&self, lane: u32) -> bool {
        self.changed.is_some() || self.is_mine(lane)
    }

    /// A new connection: whatever was known of the others is old.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.me, self.lanes);
    }

    fn is_mine(&self, lane: u32) -> bool {
        self.owners.get(lane as usize) == Some(&self.me)
    }

    /// Shares the lanes out anew. Every member but its new owner registers again for a lane whose owner changed or came again.
    fn share_out(&mut self, now: Moment) -> Vec<u32> {
        let members: Vec<Member> = self.heard.keys().copied().chain([self.me]).collect();
        let owners = owners(&members, self.lanes);
        let moves = |(old, new): (&Member, &Member)| (old != new || self.came.contains(new)) && *new != self.me;
        let pairs = (0..).zip(self.owners.iter().zip(&owners));
        let again = pairs.filter(|(_, pair)| moves(*pair)).map(|(lane, _)| lane).collect();
        (self.owners, self.changed, self.shared_at) = (owners, None, now);
        self.wrong.clear();
        self.came.clear();
        again
    }

    /// Members that saw the others come in another order may have registered in another order, too.
    fn correct(&mut self, now: Moment, has: impl Fn(u32) -> bool) -> Vec<u32> {
        let is_wrong = |lane: &u32| has(*lane) && !self.is_mine(*lane);
        let mut found: Vec<u32> = (0..self.lanes).filter(is_wrong).collect();
        // One that is away for a moment was given up or lost.
        self.wrong.iter_mut().filter(|(lane, _)| !found.contains(lane)).for_each(|(_, wrong)| wrong.since = None);
        let too_long = |lane: &u32| {
            let wrong = self.wrong.entry(*lane).or_default();
            let is_too_long = now.since(*wrong.since.get_or_insert(now)) >= wrong.patience();
            if is_too_long {
                *wrong = Wrong { since: None, given_up: wrong.given_up + 1 };
            }
            is_too_long
        };
        found.retain(too_long);
        found
    }
}

/// Who owns each lane: each lane goes to the member that its hash ranks highest and that has room. Everybody has the same number, or one more. The same for all who see the same members.
fn owners(members: &[Member], lanes: u32) -> Vec<Member> {
    let (share, mut with_one_more) = (lanes as usize / members.len().max(1), lanes as usize % members.len().max(1));
    let mut load: BTreeMap<Member, usize> = BTreeMap::new();
    let mut owners = Vec::with_capacity(lanes as usize);
    for lane in 0..lanes {
        let most = if with_one_more > 0 { share + 1 } else { share };
        let room = |member: &&Member| load.get(*member).copied().unwrap_or_default() < most;
        let best = members.iter().filter(room).max_by_key(|member| (rank(**member, lane), **member));
        let owner = best.copied().unwrap_or_default();
        let has = load.entry(owner).or_default();
        *has += 1;
        if *has > share {
            with_one_more -= 1;
        }
        owners.push(owner);
    }
    owners
}

/// How much a lane belongs to a member.
fn rank(member: Member, lane: u32) -> u64 {
    let mut hash = (member as u64) ^ ((member >> 64) as u64).rotate_left(32) ^ (u64::from(lane) << 17);
    for _ in 0..2 {
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53).wrapping_add(u64::from(lane));
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NONE: [u32; 0] = [];

    fn loads(members: &[Member], lanes: u32) -> Vec<usize> {
        let owners = owners(members, lanes);
        members.iter().map(|member| owners.iter().filter(|owner| *owner == member).count()).collect()
    }

    #[test]
    fn everybody_has_the_same_or_one_more() {
        let random = || fastrand::u128(..);
        assert_eq!(loads(&[random(), random(), random()], 24), [8, 8, 8]);
        for members in 1..20 {
            let members: Vec<Member> = (0..members).map(|_| random()).collect();
            for lanes in [1, 7, 24, 64, 1_024] {
                let loads = loads(&members, lanes);
                assert_eq!(loads.iter().sum::<usize>(), lanes as usize);
                let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
                assert!(most - least <= 1, "{lanes} lanes: {loads:?}");
            }
        }
    }

    fn nothing(_: u32) -> bool {
        false
    }

    #[test]
    fn all_who_see_the_same_members_agree() {
        let ids: Vec<Member> = (0..5).map(|_| fastrand::u128(..)).collect();
        let now = Moment::ORIGIN + SECOND;
        let views: Vec<Spread> = ids
            .iter()
            .map(|me| {
                let mut spread = Spread::new(*me, 64);
                let mut others: Vec<Member> = ids.iter().copied().filter(|id| id != me).collect();
                fastrand::shuffle(&mut others);
                for other in others {
                    spread.heard(other, now);
                }
                spread.tick(now + SECOND, nothing);
                spread
            })
            .collect();
        for lane in 0..64 {
            assert_eq!(views.iter().filter(|view| view.is_mine(lane)).count(), 1, "lane {lane}");
        }
    }

    #[test]
    fn a_newcomer_gets_its_share_and_the_others_register_behind_it() {
        let (me, other, now) = (1, 2, Moment::ORIGIN + SECOND);
        let mut spread = Spread::new(me, 24);
        spread.heard(other, now);
        assert_eq!(spread.tick(now, nothing), NONE, "somebody else may come with it");
        let again = spread.tick(now + QUIET, nothing);
        assert_eq!(again.len(), 12);
        assert!(again.iter().all(|lane| !spread.is_mine(*lane)));
        spread.heard(other, now + SECOND);
        assert_eq!(spread.tick(now + 2 * SECOND, nothing), NONE, "known already");
        spread.left(other, now + 2 * SECOND);
        assert_eq!(spread.tick(now + 3 * SECOND, nothing), NONE, "all of them are mine again: nothing to give up");
        assert!((0..24).all(|lane| spread.is_mine(lane)));
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let now = Moment::ORIGIN + SECOND;
        let mut spread = Spread::new(1, 24);
        spread.heard(2, now);
        spread.heard(3, now);
        spread.tick(now + QUIET, nothing);
        spread.heard(2, now + SECOND);
        assert_eq!(spread.tick(now + SILENT_AFTER, nothing), NONE);
        let again = spread.tick(now + SILENT_AFTER + QUIET, nothing);
        assert!(again.iter().all(|lane| !spread.is_mine(*lane)), "what 3 had and 2 gets");
        assert_eq!((0..24).filter(|lane| spread.is_mine(*lane)).count(), 12);
        spread.forget();
        assert!((0..24).all(|lane| spread.is_mine(lane)));
    }

    /// Looks every 100 ms while the other says that it is there, and gives after how long which lanes are given up.
    fn given_up(spread: &mut Spread, from: Moment, time: Duration, has: impl Fn(u32) -> bool) -> Vec<(u128, Vec<u32>)> {
        let looks = (0..=time.as_millis()).step_by(100);
        let given_up = looks.map(|after| {
            let now = from + Duration::from_millis(after as u64);
            spread.heard(2, now);
            (after, spread.tick(now, &has))
        });
        given_up.filter(|(_, lanes)| !lanes.is_empty()).collect()
    }

    #[test]
    fn a_lane_that_stays_with_the_wrong_member_is_given_up_less_and_less_often() {
        let now = Moment::ORIGIN + SECOND;
        let mut spread = Spread::new(1, 8);
        spread.heard(2, now);
        let theirs = spread.tick(now + QUIET, nothing);
        let at = now + SECOND;
        let after: Vec<(u128, Vec<u32>)> = given_up(&mut spread, at, 300 * SECOND, |_| true);
        assert!(after.iter().all(|(_, lanes)| *lanes == theirs));
        let after: Vec<u128> = after.into_iter().map(|(after, _)| after).collect();
        assert_eq!(after, [2_500, 7_600, 17_700, 37_800, 77_900, 158_000, 238_100], "each time a look later");
        spread.came(3, at);
        spread.tick(at + QUIET, nothing);
        assert!(spread.wrong.is_empty(), "with other members all is new");
    }

    #[test]
    fn what_another_had_is_not_given_up_before_it_is_missed() {
        let now = Moment::ORIGIN + SECOND;
        let mut spread = Spread::new(1, 8);
        spread.heard(2, now);
        spread.heard(3, now);
        spread.tick(now + QUIET, nothing);
        let of_3: Vec<u32> = (0..8).filter(|lane| spread.owners[*lane as usize] == 3).collect();
        // 3 said that it is there for the last time, and went.
        spread.heard(3, now + 10 * SECOND);
        let has = |lane: u32| of_3.contains(&lane);
        let moved = given_up(&mut spread, now + 10 * SECOND, 4 * SECOND, has);
        let [(_, lanes)] = &moved[..] else { panic!("more than once: {moved:?}") };
        assert!(lanes.iter().all(|lane| spread.owners[*lane as usize] == 2), "what 2 gets, and nothing before");
    }

    #[test]
    fn who_comes_again_gets_its_lanes_back_from_those_who_stood_behind_it() {
        let now = Moment::ORIGIN + SECOND;
        let mut spread = Spread::new(1, 8);
        assert_eq!(spread.told(2, Word::Join, now), Some(Word::Hello));
        let theirs = spread.tick(now + QUIET, nothing);
        assert_eq!(spread.told(2, Word::Hello, now + SECOND), None);
        assert_eq!(spread.tick(now + SECOND + QUIET, nothing), NONE);
        spread.told(2, Word::Join, now + 2 * SECOND);
        assert_eq!(spread.tick(now + 2 * SECOND + QUIET, nothing), theirs);
        assert_eq!(spread.tick(now + 2 * SECOND + 2 * QUIET, nothing), NONE);
    }

    #[test]
    fn what_should_be_mine_and_is_not_is_asked_for() {
        let now = Moment::ORIGIN + SECOND;
        let mut spread = Spread::new(1, 8);
        assert_eq!(spread.missing(now, nothing).len(), 8, "alone, from the start");
        assert_eq!(spread.missing(now, |lane| lane < 6), [6, 7]);
        spread.heard(2, now);
        assert_eq!(spread.missing(now, nothing), NONE, "they are about to move");
        spread.tick(now + QUIET, nothing);
        assert_eq!(spread.missing(now + QUIET, nothing), NONE, "they are moving");
        let missing = spread.missing(now + QUIET + PROBED_AFTER, nothing);
        assert_eq!(missing.len(), 4);
        assert!(missing.iter().all(|lane| spread.is_mine(*lane)));
    }

    /// The broker's rule beside it: the first who registered is active, and who registers again goes to the end. Whoever joins, leaves or falls silent, in the
    /// end each lane is active at the member that all agree on.
    #[test]
    fn in_the_end_every_lane_is_active_at_its_owner() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let lanes = random.u32(1..40);
            let mut queues: Vec<Vec<Member>> = vec![Vec::new(); lanes as usize];
            let mut views: BTreeMap<Member, Spread> = BTreeMap::new();
            let mut now = Moment::ORIGIN + SECOND;
            for _ in 0..random.usize(1..12) {
                for _ in 0..random.usize(1..4) {
                    let ids: Vec<Member> = views.keys().copied().collect();
                    if ids.is_empty() || random.bool() {
                        let joins = random.u128(..);
                        queues.iter_mut().for_each(|queue| queue.push(joins));
                        views.insert(joins, Spread::new(joins, lanes));
                    } else {
                        let leaves = ids[random.usize(0..ids.len())];
                        views.remove(&leaves);
                        queues.iter_mut().for_each(|queue| queue.retain(|member| *member != leaves));
                        if random.bool() {
                            views.values_mut().for_each(|view| view.left(leaves, now));
                        }
                    }
                    now = now + Duration::from_millis(random.u64(1..2_000));
                }
                // Everybody is heard by everybody, in any order and a little apart; who fell silent is forgotten. A while passes.
                for _ in 0..80 {
                    now = now + Duration::from_millis(100);
                    let mut ids: Vec<Member> = views.keys().copied().collect();
                    random.shuffle(&mut ids);
                    for id in ids.clone() {
                        let Some(view) = views.get_mut(&id) else { continue };
                        random.shuffle(&mut ids);
                        ids.iter().for_each(|other| view.heard(*other, now));
                        for lane in view.tick(now, |lane| queues[lane as usize].first() == Some(&id)) {
                            let queue = &mut queues[lane as usize];
                            queue.retain(|other| *other != id);
                            queue.push(id);
                        }
                    }
                }
            }
            for (lane, queue) in queues.iter().enumerate() {
                let Some(active) = queue.first() else { continue };
                let owner = views[active].owners[lane];
                assert!(views.values().all(|view| view.owners[lane] == owner), "seed {seed}: one view");
                assert_eq!(*active, owner, "seed {seed}, lane {lane}");
            }
        }
    }
}
