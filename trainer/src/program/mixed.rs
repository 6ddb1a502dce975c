//! Data whose rows each name the adapter that answers for them.
use super::{
    args::{Grafted, RunArgs},
    options::{Mark, Options, SavedAdapter, Settings},
    print::{note, note_unused},
    setup::{max_length, open, open_backbone, tokenizer, were_cut},
};
use anyhow::Result;
use engraft::{
    Error,
    data::{Columns, Content, Dataset, Files, Want, expand},
    learner::Learner,
    reports::progress::Mode,
    run::evaluate::Encoded,
    serving::Bank,
    tasks::{Purpose, TaskType},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What is asked, and who answers.
pub struct Mixed {
    /// The names of the adapters that rows name, and what was saved under them.
    pub named: Vec<(String, Arc<Learner>)>,
    /// For each of them its rows.
    pub encoded: Vec<Encoded>,
    /// For each row the number of its adapter.
    pub of_record: Vec<usize>,
}

impl Mixed {
    /// Those who answer.
    pub fn learners(&self) -> Vec<&Learner> {
        self.named.iter().map(|(_, learner)| &**learner).collect()
    }
    /// Reads files and loads the adapters that they name, no others. Texts are read as in training,
    /// which was the same for all of them, unless the arguments say otherwise.
    pub fn load(
        g: &Grafted,
        reading: Options,
        input: &[PathBuf],
        purpose: Purpose,
        run: &RunArgs,
    ) -> Result<Mixed> {
        let known = known(&g.adapters)?;
        let given = Options { model: Some(g.model.clone()), task: g.task.clone(), ..g.stored.options() };
        let given = given.over(reading);
        let s = as_all_recorded(given.clone(), &known, purpose)?.settle()?;
        let s = Settings { quiet: run.quiet, ..s };
        let columns = Columns { adapter: g.adapter_column.clone(), ..s.columns() };
        let content = content(g.task.as_deref(), &known)?;
        let want = Want { content, labels: purpose == Purpose::Evaluate };
        let files = Files::new(&expand(input, purpose, Mode::detect(run.quiet))?, &columns, want)?;
        let (data, rows) = rows(&files, &known)?;
        note(files.notes(), run.quiet);

        let backbone = open_backbone(&s, &open(run.device, run.threads)?)?;
        if !run.quiet {
            note_unused(&backbone);
        }
        let tokenizer = tokenizer(&backbone, max_length(s.max_length, &backbone), &s)?;
        let told =
            move |directory: &Path| Ok(given.clone().over(Options::recorded(directory)?).settle()?.told());
        let bank = Bank::new(backbone).storing(g.adapter_dtype.into())?.telling(told);
        let of = |name: &String| known.get(name).map(|directory| (name.clone(), directory.clone()));
        bank.load_all(rows.keys().filter_map(of).collect())?;
        let (mut named, mut encoded, mut of_record) = (vec![], vec![], vec![0; data.len()]);
        for (name, rows) in rows {
            let learner = bank.get(&name)?;
            check_task(&name, &learner, g.task.as_deref(), named.first())?;
            rows.iter().for_each(|row| of_record[*row] = named.len());
            encoded.push(Encoded::new(data.part(&rows), &learner, &tokenizer, purpose)?);
            named.push((name, learner));
        }
        let cut = (encoded.iter().map(|e| e.cut).sum(), data.len());
        let limits = named[0].1.task().limits(tokenizer.max_length());
        note(were_cut(cut, &data.path, &limits), run.quiet);
        Ok(Mixed { named, encoded, of_record })
    }
}

/// What stands beside texts for the task that is asked for, or that all runs have recorded which
/// saved the adapters; a class if these are several.
fn content(asked: Option<&str>, known: &BTreeMap<String, PathBuf>) -> engraft::Result<Content> {
    let recorded = |directory: &PathBuf| Ok(Options::recorded(directory)?.task);
    let mut tasks = match asked {
        Some(task) => BTreeSet::from([Some(task.to_string())]),
        None => known.values().map(recorded).collect::<engraft::Result<BTreeSet<_>>>()?,
    };
    let only = tasks.pop_first().flatten().filter(|_| tasks.is_empty());
    let content = only.map(|task| TaskType::named(&task)).transpose()?.map(|kind| kind.content);
    Ok(content.filter(|content| content.has_texts()).unwrap_or(Content::Texts))
}

/// The records of files, and for each adapter that they name the numbers of its own.
fn rows(
    files: &Files,
    known: &BTreeMap<String, PathBuf>,
) -> engraft::Result<(Dataset, BTreeMap<String, Vec<usize>>)> {
    let (mut all, mut rows) = (None::<Dataset>, BTreeMap::<String, Vec<usize>>::new());
    for part in files.parts() {
        let part = part?;
        for (i, record) in part.records.iter().enumerate() {
            let name = record.adapter.clone().unwrap_or_default();
            if !known.contains_key(&name) {
                let (path, line, known) = (part.path.clone(), record.line, known.keys().cloned().collect());
                return Err(Error::Adapter { path, line, adapter: name, known });
            }
            rows.entry(name).or_default().push(all.as_ref().map_or(0, Dataset::len) + i);
        }
        match &mut all {
            Some(all) => all.append(part),
            none => *none = Some(part),
        }
    }
    let mut data = all.ok_or_else(|| Error::file(&files.name(), "the file is empty"))?;
    data.path = files.name();
    Ok((data, rows))
}

/// Refuses one that reads texts as none, or does another task than is asked for, or than the
/// others.
fn check_task(
    name: &str,
    learner: &Learner,
    asked: Option<&str>,
    first: Option<&(String, Arc<Learner>)>,
) -> engraft::Result<()> {
    let task = learner.task();
    if !task.content().has_texts() {
        return Err(Error::Model(format!("`{name}` does {}, and reads no rows of texts", task.name())));
    }
    if let Some(asked) = asked.filter(|asked| *asked != task.name()) {
        let why = format!("`{name}` does {}", task.name());
        return Err(Error::Option { option: "task", value: asked.into(), why });
    }
    match first.filter(|(_, first)| first.task().name() != task.name()) {
        Some((other, first)) => {
            let (a, b) = (first.task().name(), task.name());
            Err(Error::Model(format!(
                "`{other}` does {a} and `{name}` {b}: predict them one after the other"
            )))
        }
        None => Ok(()),
    }
}

/// Whether something was saved in a directory that answers.
fn is_saved(directory: &Path) -> bool {
    let there = |name: &str| directory.join(name).exists();
    ["adapter_config.json", "adapter_setup.json", "head_config.json"].into_iter().any(there)
}

/// The adapters that arguments name, and those in the directories that they name.
pub(super) fn known(arguments: &[String]) -> engraft::Result<BTreeMap<String, PathBuf>> {
    let mut known = BTreeMap::new();
    let mut add = |name: String, directory: PathBuf| match known.insert(name.clone(), directory) {
        None => Ok(()),
        Some(other) => {
            let why = format!("it is one in {} too: give it a name as in NAME=DIR", other.display());
            Err(Error::Option { option: "adapters", value: format!("`{name}`"), why })
        }
    };
    for text in arguments {
        let directory = Path::new(text);
        if text.contains('=') || is_saved(directory) {
            let refused = |why| Error::Option { option: "adapters", value: format!("`{text}`"), why };
            let SavedAdapter { name, directory } = text.parse().map_err(refused)?;
            add(name, directory)?;
            continue;
        }
        let failed = |source| Error::Read { path: directory.into(), source };
        let mut found = 0;
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|_| is_saved(&path)) {
                add(name.into(), path.clone())?;
                found += 1;
            }
        }
        if found == 0 {
            return Err(Error::file(directory, "there is no adapter in it, and none in its folders"));
        }
    }
    Ok(known)
}

/// What is given, and where it says nothing what the runs recorded that saved the adapters: one
/// backbone serves all of them, and one way to read.
fn as_all_recorded(
    given: Options,
    known: &BTreeMap<String, PathBuf>,
    purpose: Purpose,
) -> engraft::Result<Options> {
    let mut common: Option<(&String, Options)> = None;
    let table = |options: &Options| toml::Table::try_from(options).unwrap_or_default();
    let given_keys = given.keys_given();
    for (name, directory) in known {
        let recorded = Options::recorded(directory)?;
        let label_column = recorded.label_column.clone().filter(|_| purpose == Purpose::Evaluate);
        let recorded = Options { task: None, label_column, ..recorded }; // what is learned says each head
        let Some((first, before)) = &common else {
            common = Some((name, recorded));
            continue;
        };
        let (ours, theirs) = (table(before), table(&recorded));
        let keys = Options::keys_of(Mark::Use).into_iter().filter(|key| !given_keys.contains(key));
        if let Some(key) = keys.into_iter().find(|key| ours.get(key) != theirs.get(key)) {
            let show = |table: &toml::Table| table.get(&key).map_or("nothing".into(), ToString::to_string);
            return Err(Error::Model(format!(
                "`{first}` was learned with `{key}` {} and `{name}` with {}: say with --{key} how all of them are to be read",
                show(&ours),
                show(&theirs)
            )));
        }
    }
    Ok(given.over(common.map(|(_, options)| options).unwrap_or_default()))
}
