//! Requests from several threads, gathered into mixed batches.
use super::bank::Bank;
use crate::{
    Error, Result,
    data::{Content, Dataset},
    learner::Learner,
    run::evaluate::{Encoded, cannot_say},
    tasks::{Answer, Prediction, Purpose},
    text::{
        batch::{Batch, BatchSize, fill},
        example::{Example, Reads},
        tokenizer::Tokenizer,
    },
};
use std::{
    collections::VecDeque,
    mem::discriminant,
    sync::{Arc, Condvar, Mutex, MutexGuard, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How requests are gathered into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathering {
    /// A batch has at most so many tokens; a longer text is a batch of its own.
    pub tokens: usize,
    /// The first request of a batch waits so long for others, unless the batch is full before.
    pub wait: Duration,
}
impl Default for Gathering {
    /// 4,096 tokens, 2 milliseconds.
    fn default() -> Gathering {
        Gathering { tokens: 4096, wait: Duration::from_millis(2) }
    }
}

/// What a service has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Examples that were answered.
    pub examples: usize,
    /// Batches that they were computed in.
    pub batches: usize,
}

/// Answers requests of any number of threads: those that come at about the same time are computed
/// in one mixed batch, each by the learner that it names, with the bits that it would get by
/// itself. An error goes to the request that caused it.
///
/// When it is dropped it answers what has been asked, and ends.
pub struct Service {
    bank: Arc<Bank>,
    gathering: Gathering,
    queue: Arc<Queue>,
    worker: Option<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}
#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    served: Served,
    is_closed: bool,
}
/// Some examples for one learner.
struct Request {
    learner: Arc<Learner>,
    examples: Vec<Example>,
    came: Instant,
    reply: mpsc::Sender<Result<Vec<Answer>>>,
}
impl Request {
    fn tokens(&self) -> usize {
        self.examples.iter().map(|e| e.ids.len()).sum()
    }
    /// What a batch can hold together.
    fn reads(&self) -> std::mem::Discriminant<Reads> {
        discriminant(&self.examples.first().map(|e| e.reads.clone()).unwrap_or_default())
    }
}

impl Service {
    /// Begins to answer for the learners of a bank. An error if the system has no thread to give.
    pub fn start(bank: Arc<Bank>, gathering: Gathering) -> Result<Service> {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new() });
        let (of_worker, named) = (queue.clone(), std::thread::Builder::new().name("engraft-service".into()));
        let worker = named.spawn(move || {
            let queue = Closing(of_worker);
            while queue.0.serve(&gathering) {}
        });
        let worker = worker.map_err(|e| Error::Model(format!("there is no thread for a service: {e}")))?;
        Ok(Service { bank, gathering, queue, worker: Some(worker) })
    }
    /// The learners.
    pub fn bank(&self) -> &Arc<Bank> {
        &self.bank
    }
    /// What it has done so far.
    pub fn served(&self) -> Served {
        self.queue.lock().served
    }
    /// What the learner of a name computes for some examples; returns when it is there.
    pub fn answers(&self, name: &str, examples: Vec<Example>) -> Result<Vec<Answer>> {
        self.ask(&self.bank.get(name)?, examples)
    }
    /// What the learner of a name says of some texts, as `engraft predict` prints it; words are
    /// split at spaces.
    pub fn predict(&self, name: &str, texts: &[String], tokenizer: &Tokenizer) -> Result<Vec<Prediction>> {
        let learner = self.bank.get(name)?;
        if learner.task().generates(tokenizer.max_length()).is_some() {
            return Err(cannot_say(learner.task()));
        }
        let data = match learner.task().content() {
            Content::Words => Dataset::of_sentences("text", texts)?,
            Content::Questions | Content::Choices => {
                let name = learner.task().name();
                return Err(Error::Model(format!("the task {name} reads more than a text: ask for answers")));
            }
            _ => Dataset::of_texts("text", texts)?,
        };
        let encoded = Encoded::new(data, &learner, tokenizer, Purpose::Predict)?;
        let answers = self.ask(&learner, encoded.examples.iter().collect())?;
        Ok(learner.task().predictions(&encoded.data, &encoded.examples, &answers))
    }
    fn ask(&self, learner: &Arc<Learner>, examples: Vec<Example>) -> Result<Vec<Answer>> {
        let (mut replies, mut examples) = (vec![], examples.into_iter().peekable());
        while examples.peek().is_some() {
            let part = fill(&mut examples, BatchSize::Tokens(self.gathering.tokens), |e| e.ids.len());
            let (reply, answer) = mpsc::channel();
            replies.push(answer);
            let request = Request { learner: learner.clone(), examples: part, came: Instant::now(), reply };
            let mut state = self.queue.lock();
            if state.is_closed {
                return Err(gone());
            }
            state.waiting.push_back(request);
        }
        self.queue.changed.notify_all();
        let parts = replies.into_iter().map(|reply| reply.recv().map_err(|_| gone())?);
        Ok(parts.collect::<Result<Vec<_>>>()?.concat())
    }
}
fn gone() -> Error {
    Error::Model("the service has ended".into())
}
/// When its worker ends, however it does, nobody waits any more.
struct Closing(Arc<Queue>);
impl Drop for Closing {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        (state.is_closed, state.waiting) = (true, VecDeque::new());
    }
}
impl Drop for Service {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_all();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// One batch; false if there is nothing more to come.
    fn serve(&self, gathering: &Gathering) -> bool {
        let Some(requests) = self.gather(gathering) else { return false };
        let together = if requests.len() > 1 { answer(&requests).ok() } else { None };
        let replies: Vec<Result<Vec<Answer>>> = match together {
            Some(all) => {
                self.count(&all, 1);
                all.into_iter().map(Ok).collect()
            }
            // by itself, or to find out whose error it is
            None => {
                let alone = |r| answer(std::slice::from_ref(r)).inspect(|one| self.count(one, 1));
                requests.iter().map(|r| Ok(alone(r)?.concat())).collect()
            }
        };
        for (request, reply) in requests.iter().zip(replies) {
            let _ = request.reply.send(reply); // if nobody waits any more it is for nobody
        }
        true
    }
    fn count(&self, answers: &[Vec<Answer>], batches: usize) {
        let served = &mut self.lock().served;
        served.examples += answers.iter().map(Vec::len).sum::<usize>();
        served.batches += batches;
    }
    /// The requests of the next batch: the first that waits, and others of its kind behind it while
    /// there is room. None if the service is closed and nobody waits.
    fn gather(&self, gathering: &Gathering) -> Option<Vec<Request>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        while !state.is_closed && state.waiting.iter().map(Request::tokens).sum::<usize>() < gathering.tokens
        {
            let waited = state.waiting.front().map(|r| r.came.elapsed()).unwrap_or_default();
            let Some(left) = gathering.wait.checked_sub(waited).filter(|left| !left.is_zero()) else { break };
            state = self.changed.wait_timeout(state, left).map_or_else(|e| e.into_inner().0, |(s, _)| s);
        }
        let mut tokens = 0;
        let mut taken: Vec<Request> = vec![];
        let mut rest = VecDeque::new();
        for r in state.waiting.drain(..) {
            let fits = taken
                .first()
                .is_none_or(|first| first.reads() == r.reads() && tokens + r.tokens() <= gathering.tokens);
            if fits {
                tokens += r.tokens();
                taken.push(r);
            } else {
                rest.push_back(r);
            }
        }
        state.waiting = rest;
        Some(taken)
    }
}

/// What is computed for requests in one batch.
fn answer(requests: &[Request]) -> Result<Vec<Vec<Answer>>> {
    let batch: Batch = requests.iter().flat_map(|r| r.examples.iter().cloned()).collect();
    let of_item: Vec<Arc<Learner>> =
        requests.iter().flat_map(|r| std::iter::repeat_n(r.learner.clone(), r.examples.len())).collect();
    let mut answers = Bank::answers(&of_item, &batch)?.into_iter();
    Ok(requests.iter().map(|r| answers.by_ref().take(r.examples.len()).collect()).collect())
}
