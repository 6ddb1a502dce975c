//! Saved learners on one frozen model, by name.
use crate::{
    Error, Result, Storage,
    error::list,
    learner::{Backbone, Learner, answers_of_each},
    tasks::{Answer, TaskType, Told},
    text::batch::Batch,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Any number of saved learners on one frozen model: adapters with their heads, each with a name.
/// They come and go while others answer: whoever has got hold of one keeps it until it has
/// answered.
pub struct Bank {
    backbone: Backbone,
    storage: Option<Storage>,
    telling: Box<Telling>,
    all: RwLock<All>,
}
/// What the task of a saved learner is told, by its directory.
type Telling = dyn Fn(&Path) -> Result<Told> + Send + Sync;
type All = BTreeMap<String, Arc<Learner>>;

impl Bank {
    /// None yet, on this model.
    pub fn new(backbone: Backbone) -> Bank {
        let telling = Box::new(|_: &Path| Ok(Told::default()));
        Bank { backbone, storage: None, telling, all: RwLock::default() }
    }
    /// The matrices of adapters that are loaded from now on are stored like that, in bf16 in half
    /// the bytes, and decoded where they are used; everything is computed in f32. Heads, biases and
    /// norms stay f32. Other types than f32 and bf16 are an error.
    pub fn storing(self, storage: Storage) -> Result<Bank> {
        match storage {
            Storage::F32 | Storage::Bf16 => Ok(Bank { storage: Some(storage), ..self }),
            other => Err(Error::Model(format!("adapters are held in f32 or bf16, not in {other}"))),
        }
    }
    /// What tasks of learners that are loaded from now on are told, by the directory of each: the
    /// options with which they learned, where they are not the usual ones.
    pub fn telling(self, telling: impl Fn(&Path) -> Result<Told> + Send + Sync + 'static) -> Bank {
        Bank { telling: Box::new(telling), ..self }
    }
    /// The model.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }
    fn all(&self) -> RwLockReadGuard<'_, All> {
        self.all.read().unwrap_or_else(|e| e.into_inner())
    }
    fn write(&self) -> RwLockWriteGuard<'_, All> {
        self.all.write().unwrap_or_else(|e| e.into_inner())
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }
    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        self.all().keys().cloned().collect()
    }
    /// The one of a name; an error that lists others if there is none.
    pub fn get(&self, name: &str) -> Result<Arc<Learner>> {
        let all = self.all();
        all.get(name).cloned().ok_or_else(|| {
            let known: Vec<String> = all.keys().cloned().collect();
            Error::Model(format!("there is no adapter `{name}`; there are {}", list(&known)))
        })
    }
    /// Takes in a learner on this model; the one that had its name before goes. Whether there was
    /// one.
    pub fn insert(&self, name: &str, learner: Learner) -> Result<bool> {
        if !learner.backbone().is_same(&self.backbone) {
            return Err(Error::Model(format!("`{name}` stands on another model than the others")));
        }
        Ok(self.write().insert(name.into(), Arc::new(learner)).is_some())
    }
    /// Takes one out.
    pub fn remove(&self, name: &str) -> Option<Arc<Learner>> {
        self.write().remove(name)
    }
    /// Loads what was saved in a directory; the one that had its name before goes. Whether there
    /// was one.
    pub fn load(&self, name: &str, directory: &Path) -> Result<bool> {
        self.insert(name, self.read(directory)?)
    }
    /// Loads several, with their names, by as many threads as the device has: all of them, or none
    /// and the first error.
    pub fn load_all(&self, named: Vec<(String, PathBuf)>) -> Result<()> {
        let (next, threads) = (AtomicUsize::new(0), self.backbone.device().threads().min(named.len()));
        let work = || {
            let mut loaded = vec![];
            while let Some((i, (_, directory))) =
                Some(next.fetch_add(1, Relaxed)).and_then(|i| Some((i, named.get(i)?)))
            {
                let learner = self.read(directory);
                let failed = learner.is_err();
                loaded.push((i, learner));
                if failed {
                    break;
                }
            }
            loaded
        };
        let mut loaded = std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            all.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
        });
        loaded.sort_by_key(|(i, _)| *i);
        let learners = loaded.into_iter().map(|(_, learner)| learner).collect::<Result<Vec<_>>>()?;
        if learners.len() != named.len() {
            return Err(Error::Model("a thread that loads adapters has ended".into()));
        }
        self.write().extend(named.into_iter().map(|(name, _)| name).zip(learners.into_iter().map(Arc::new)));
        Ok(())
    }
    fn read(&self, directory: &Path) -> Result<Learner> {
        let backbone = self.backbone.clone();
        let info = backbone.model().info().clone();
        backbone.load_frozen_learner(directory, self.storage, |head| {
            if head.is_none() && !info.predicts_next() {
                return Err(Error::file(directory, "there is no head in it, so it answers nothing"));
            }
            let kind = TaskType::of_head(head.map(|h| h.config()), &info)?;
            let labels = head.map(|h| h.labels().to_vec()).unwrap_or_default();
            (kind.known)(labels, &(self.telling)(directory)?)
        })
    }
    /// What learners of this model compute for the examples of a mixed batch, of which example i is
    /// for `of_item[i]`: see [`answers_of_each`].
    pub fn answers(of_item: &[Arc<Learner>], batch: &Batch) -> Result<Vec<Answer>> {
        let mut learners: Vec<&Learner> = vec![];
        let mut numbers = BTreeMap::new();
        let mut of = vec![];
        for l in of_item {
            let n = *numbers.entry(Arc::as_ptr(l)).or_insert(learners.len());
            if n == learners.len() {
                learners.push(l);
            }
            of.push(n);
        }
        answers_of_each(&learners, &of, batch)
    }
}
