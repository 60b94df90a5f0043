//! The harness of the memory broker, in both shapes.

use std::time::Duration;

use async_trait::async_trait;
use convoy_core::backend::Place;
use convoy_core::{Broker, ChannelSpec, Result, SessionId, Topology};
use convoy_memory::{AnswerFault, ConsumerId, Landing, MemoryBroker, Options, SendFault, StaleEvent};

use convoy_conformance::suite::{Answered, Fault, Faults, GROUP, Harness, Hook, SentSo, Shape, Stage, Wishes};

/// The memory broker under test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    shape: Shape,
}

impl Memory {
    /// As a broker that locks sessions.
    #[allow(dead_code, reason = "each test target uses one")]
    pub(crate) fn sessions() -> Self {
        Self { shape: Shape::Sessions }
    }

    /// As one of lanes: as many as a scenario wishes.
    #[allow(dead_code, reason = "each test target uses one")]
    pub(crate) fn lanes() -> Self {
        Self { shape: Shape::Lanes }
    }
}

const CHANNEL: &str = "orders";

#[async_trait]
impl Harness for Memory {
    fn name(&self) -> String {
        match self.shape {
            Shape::Sessions => "memory, sessions".to_owned(),
            Shape::Lanes => "memory, lanes".to_owned(),
        }
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn runtime(&self) -> std::io::Result<tokio::runtime::Runtime> {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(3_600)
    }

    fn hooks(&self) -> &'static [Hook] {
        use Hook::*;
        &[Lose, HandOver, GiveBack, Answers, Store, Sends, Cut, Silence, Freeze, Foreign, Stale, Capacity]
    }

    async fn stage(&self, wishes: Wishes) -> Result<Stage> {
        let options = Options::new().lock(wishes.lock).capacity(wishes.capacity).max_message(wishes.max_message);
        let lanes = wishes.lanes;
        let options = if self.shape == Shape::Lanes { options.lanes(lanes) } else { options };
        let memory = MemoryBroker::with_options(options)?;
        let broker = Broker::new(memory.clone());
        broker.provision(&Topology::new().channel(ChannelSpec::new(CHANNEL).group(GROUP))).await?;
        let lanes = (self.shape == Shape::Lanes).then_some(lanes);
        Ok(Stage { broker, channel: CHANNEL.to_owned(), faults: Box::new(MemoryFaults { memory, lanes }) })
    }
}

struct MemoryFaults {
    memory: MemoryBroker,
    lanes: Option<u32>,
}

impl MemoryFaults {
    fn place(&self, session: &SessionId) -> Place {
        match self.lanes {
            Some(lanes) => Place::Lane((session.stable_hash() % u64::from(lanes)) as u32),
            None => Place::Session(session.clone()),
        }
    }

    fn try_inject(&self, group: &str, fault: Fault) -> Result<bool> {
        let channel = self.memory.faults().channel(CHANNEL)?;
        let group = self.memory.faults().group(CHANNEL, group)?;
        let consumer = |number: usize| ConsumerId(number as u64 + 1);
        Ok(match fault {
            Fault::Lose(session) => group.lose(&self.place(&session)),
            Fault::HandOver(session) => group.hand_to_another(&self.place(&session)),
            Fault::GiveBack(session) => group.give_back(&self.place(&session)),
            Fault::Settlements(n, answered) => {
                group.settlements(n, answer(answered));
                true
            }
            Fault::SetAsides(n, answered) => {
                group.set_asides(n, answer(answered));
                true
            }
            Fault::Renewals(n, answered) => {
                group.renewals(n, answer(answered));
                true
            }
            Fault::Sends(n, so) => {
                channel.sends(n, sent(so));
                true
            }
            Fault::Land => channel.land() > 0,
            Fault::Cut(number, back) => group.cut(consumer(number), Some(back)),
            Fault::Silence(number) => group.silence(consumer(number)),
            Fault::Freeze => {
                self.memory.faults().freeze();
                true
            }
            Fault::Thaw => {
                self.memory.faults().thaw();
                true
            }
            Fault::Foreign(defect, session, body) => channel.foreign(defect, &session, body).is_ok(),
            Fault::Stale(number) => {
                let each = [StaleEvent::Delivered, StaleEvent::Settled, StaleEvent::Proved];
                each.into_iter().all(|event| group.stale(consumer(number), event))
            }
            _ => false,
        })
    }
}

impl Faults for MemoryFaults {
    fn inject(&self, group: &str, fault: Fault) -> bool {
        self.try_inject(group, fault).unwrap_or(false)
    }
}

fn answer(answered: Answered) -> AnswerFault {
    match answered {
        Answered::Late(time) => AnswerFault::Delay(time),
        Answered::Refused => AnswerFault::Refuse,
        Answered::NotApplied => AnswerFault::NotApplied,
        Answered::Lost => AnswerFault::AnswerLost,
    }
}

fn sent(so: SentSo) -> SendFault {
    match so {
        SentSo::Refused => SendFault::Refuse,
        SentSo::Full => SendFault::Full,
        SentSo::UnknownLanded => SendFault::Landed,
        SentSo::UnknownNever => SendFault::NeverLands,
        SentSo::UnknownLate => SendFault::LandsLate(Landing::OnCommand),
        SentSo::Late(time) => SendFault::Delay(time.max(Duration::from_nanos(1))),
    }
}
