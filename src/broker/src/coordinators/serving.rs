//! A coordinator that answers requests: one loop over its mailbox, its appends, its deadlines and its notices.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use strandline_types::Now;
use strandline_wire::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::machine::{Machine, Token, Turn};
use super::notices::Notices;
use super::pipeline::{Append, Pipeline};
use crate::clock::{monotonic, now};
use crate::stop;

/// Requests that share a turn of the loop.
const SHARED_TURN: usize = 128;
pub(super) type Command<M> = Box<dyn FnOnce(&mut M, Token, Now) -> Turn<M> + Send>;
/// Looks at the machine, or learns why there is none.
pub(super) type Query<M> = Box<dyn FnOnce(Result<&M, ErrorCode>) + Send>;

pub(super) enum Message<M: Machine> {
    Command(Command<M>, oneshot::Sender<Result<M::Reply, ErrorCode>>),
    Query(Query<M>),
}

impl<M: Machine> Message<M> {
    pub(super) fn refuse(self, error: ErrorCode) {
        match self {
            Self::Command(_, reply) => {
                let _ = reply.send(Err(error));
            }
            Self::Query(query) => query(Err(error)),
        }
    }
}

/// The inputs of a coordinator.
pub(super) struct Inputs<M: Machine> {
    pub mailbox: mpsc::Receiver<Message<M>>,
    pub notices: Arc<Notices>,
    pub upkeep_interval: Duration,
    pub stop: CancellationToken,
}

/// Why a phase of the loop ended.
pub(super) enum End {
    /// The broker stops, or has another coordinator for the partition.
    Over,
    /// This broker does not lead the partition now.
    Away,
}

/// A coordinator that answers.
pub(super) struct Serving<M: Machine> {
    machine: M,
    waiting: HashMap<Token, oneshot::Sender<Result<M::Reply, ErrorCode>>>,
    next_token: Token,
    pipeline: Pipeline<M>,
}

impl<M: Machine> Serving<M> {
    pub fn new(machine: M, append: Append) -> Self {
        Self {
            machine,
            waiting: HashMap::new(),
            next_token: 0,
            pipeline: Pipeline::new(append),
        }
    }

    /// Serves as long as `leads` says so. Requests without an answer are dropped, so their clients ask again.
    pub async fn run(mut self, inputs: &mut Inputs<M>, leads: impl Fn() -> bool) -> End {
        let mut upkeep = tokio::time::interval(inputs.upkeep_interval);
        upkeep.tick().await;
        let mut closing: Option<Instant> = None;
        loop {
            if closing.is_some() && self.pipeline.is_idle() {
                return End::Over;
            }
            let deadline = self.machine.next_deadline();
            let wake = deadline
                .map(|at| Instant::now() + Duration::from_millis(at.ms_since(monotonic()) as u64));
            let takes_requests = closing.is_none() && !self.pipeline.is_full();
            let turn = tokio::select! {
                // Commits that wait for followers must not delay the end; their clients ask the next coordinator.
                () = sleep_until(closing) => return End::Over,
                () = inputs.stop.cancelled(), if closing.is_none() => {
                    closing = Some(Instant::now() + stop::COMMITS);
                    continue;
                }
                (appends, result) = self.pipeline.settled() => self.settle(appends, result),
                message = inputs.mailbox.recv(), if takes_requests => match message {
                    None => {
                        closing = Some(Instant::now() + stop::COMMITS);
                        continue;
                    }
                    Some(message) => self.take(message, &mut inputs.mailbox),
                },
                () = sleep_until(wake) => self.machine.tick(now()),
                _ = upkeep.tick() => self.machine.upkeep(),
                () = inputs.notices.left() => self.forget(&inputs.notices),
            };
            self.answer(turn);
            if !leads() {
                return End::Away;
            }
        }
    }

    /// Handles a message and the messages that are queued behind it. A client that sends a request after its commit was
    /// answered sees its commit; messages that are handled together here were not answered before.
    fn take(&mut self, first: Message<M>, mailbox: &mut mpsc::Receiver<Message<M>>) -> Turn<M> {
        let mut all = Turn::default();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(message) = next.take() {
            match message {
                Message::Query(query) => query(Ok(&self.machine)),
                Message::Command(command, reply) => {
                    self.next_token += 1;
                    self.waiting.insert(self.next_token, reply);
                    all.merge(command(&mut self.machine, self.next_token, now()));
                }
            }
            taken += 1;
            if taken < SHARED_TURN {
                next = mailbox.try_recv().ok();
            }
        }
        all
    }

    fn settle(&mut self, appends: Vec<M::Append>, result: Result<(), ErrorCode>) -> Turn<M> {
        let mut all = Turn::default();
        for append in appends {
            all.merge(match result {
                Ok(()) => self.machine.committed(append, now()),
                Err(error) => self.machine.failed(append, error, now()),
            });
        }
        all
    }

    fn forget(&mut self, notices: &Notices) -> Turn<M> {
        let mut all = Turn::default();
        for topic in notices.take() {
            all.merge(self.machine.topic_deleted(&topic));
        }
        all
    }

    fn answer(&mut self, turn: Turn<M>) {
        for (token, reply) in turn.replies {
            if let Some(waiting) = self.waiting.remove(&token) {
                let _ = waiting.send(Ok(reply));
            }
        }
        self.pipeline.push(turn.appends);
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use strandline_types::MonotonicMs;

    use super::super::machine::KeyValue;
    use super::*;
    use crate::partition::AppendReply;

    /// Counts committed records.
    struct Counter(usize);

    impl Machine for Counter {
        type Reply = usize;
        type Append = (Token, u8);

        fn load(&mut self, _: &Bytes, _: Option<&Bytes>, _: Now) -> Result<(), String> {
            Ok(())
        }
        fn finish_load(&mut self) {}
        fn records(append: &Self::Append) -> Vec<KeyValue> {
            vec![(Bytes::from(vec![append.1]), None)]
        }
        fn committed(&mut self, append: Self::Append, _: Now) -> Turn<Self> {
            self.0 += 1;
            Turn {
                replies: vec![(append.0, self.0)],
                ..Turn::default()
            }
        }
        fn failed(&mut self, append: Self::Append, _: ErrorCode, _: Now) -> Turn<Self> {
            Turn {
                replies: vec![(append.0, usize::MAX)],
                ..Turn::default()
            }
        }
        fn next_deadline(&self) -> Option<MonotonicMs> {
            None
        }
        fn tick(&mut self, _: Now) -> Turn<Self> {
            Turn::default()
        }
        fn upkeep(&mut self) -> Turn<Self> {
            Turn::default()
        }
        fn topic_deleted(&mut self, topic: &str) -> Turn<Self> {
            self.0 += topic.len();
            Turn::default()
        }
    }

    type Answer = oneshot::Receiver<Result<usize, ErrorCode>>;

    fn write(mailbox: &mpsc::Sender<Message<Counter>>, record: u8) -> Answer {
        let (reply, answer) = oneshot::channel();
        let command = Box::new(move |_: &mut Counter, token, _| Turn {
            appends: vec![(token, record)],
            ..Turn::default()
        });
        assert!(mailbox.try_send(Message::Command(command, reply)).is_ok());
        answer
    }

    fn look(mailbox: &mpsc::Sender<Message<Counter>>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let command = Box::new(move |counter: &mut Counter, token, _| Turn {
            replies: vec![(token, counter.0)],
            ..Turn::default()
        });
        assert!(mailbox.try_send(Message::Command(command, reply)).is_ok());
        answer
    }

    /// One append that hangs stopped every request of all groups of the coordinator, and the follower of the metadata with it.
    #[tokio::test(start_paused = true)]
    async fn requests_and_notices_are_served_while_appends_are_under_way() {
        let (sender, mailbox) = mpsc::channel(8);
        let (log, mut appended) = mpsc::unbounded_channel();
        let notices = Arc::<Notices>::default();
        let mut inputs = Inputs {
            mailbox,
            notices: notices.clone(),
            upkeep_interval: Duration::from_secs(60),
            stop: CancellationToken::new(),
        };
        let append: Append = Box::new(move |batch| {
            let (reply, commit) = oneshot::channel::<AppendReply>();
            let _ = log.send((batch, reply));
            Box::pin(async move { Ok(commit) })
        });
        let stop = inputs.stop.clone();
        let serving = Serving::new(Counter(0), append);
        let task =
            tokio::spawn(
                async move { matches!(serving.run(&mut inputs, || true).await, End::Over) },
            );
        let (first, looked) = (write(&sender, 1), look(&sender));
        assert_eq!(looked.await, Ok(Ok(0)), "answered before the append");
        // The next append goes to the log behind the first one, without waiting for its commit.
        let mut second = write(&sender, 2);
        let (one, two) = (
            appended.recv().await.unwrap(),
            appended.recv().await.unwrap(),
        );
        assert!(one.0.bytes < two.0.bytes || one.0.bytes.len() == two.0.bytes.len());
        let reply = |info| AppendReply {
            results: vec![info],
            log_start_offset: 0,
        };
        let gone = || Err(crate::partition::PartitionError::Gone);
        // The second one is settled in the log first, and takes effect in order.
        let _ = two.1.send(reply(gone()));
        let early = tokio::time::timeout(Duration::from_secs(5), &mut second).await;
        assert!(early.is_err());
        let _ = one.1.send(reply(gone()));
        assert_eq!(
            (first.await, second.await),
            (Ok(Ok(usize::MAX)), Ok(Ok(usize::MAX)))
        );
        notices.leave("abc");
        loop {
            if look(&sender).await == Ok(Ok(3)) {
                break;
            }
            tokio::task::yield_now().await;
        }
        // A stop does not wait for a commit that never comes.
        let never = write(&sender, 3);
        let _kept = appended.recv().await.unwrap();
        stop.cancel();
        assert_eq!(task.await.ok(), Some(true));
        assert!(never.await.is_err());
    }
}
