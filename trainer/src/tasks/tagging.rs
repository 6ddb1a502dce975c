//! Tagging: a label for each word of a sentence.
//!
//! A word's first token stands for it, and only that token's row is read. Sentences that are too
//! long are read in windows that overlap ([`windows`]), each word in one of them, so that every
//! word is scored and none twice; a word of which the tokenizer leaves nothing counts as one for
//! which `O` was predicted.
//!
//! Where all labels are tags such as `B-PER`, entities are found in them: as `conlleval` and seqeval
//! find them by default ([`Entities`]), or strictly in a scheme ([`Scheme`]). Labels of another
//! kind, as parts of speech, are classes of words.
use super::{
    classes,
    one_line::one_line,
    outputs::Outputs,
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType, Told},
    top::Top,
};
use crate::{
    Error, Result,
    data::{Content, Dataset, Label, Labels, NO_NUMBER, Name, Record},
    reports::{
        by_example::{ExamplePrediction, Statistic},
        class_table::table,
        confusion::Confusion,
        entities::Entities,
        metrics::{Metric, Metrics},
        scores::schemes::Scheme,
    },
    text::{
        batch::Batch,
        example::{Example, IGNORED, Reads},
        examples::Examples,
        tokenizer::Tokenizer,
        windows::windows,
    },
};
use engraft_adapters::{HeadConfig, heads};
use engraft_engine::{Act, Cx};
use engraft_models::{Kind, ModelInfo};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The registry row.
pub(super) const TASK: TaskType = TaskType {
    name: NAME,
    help: "A label for each word: entities, parts of speech",
    content: Content::Words,
    labelled: true,
    classes: true,
    does: |head| head.head_type() == NAME,
    headless: false,
    learn: |path, names, told| Ok(Box::new(Tagging::of(Labels::learn(path, names)?).told(told)?)),
    known: |names, told| Ok(Box::new(Tagging::new(names)?.told(told)?)),
};
const NAME: &str = "tagging";
/// The label of words outside of entities.
const OUTSIDE: &str = "O";
/// Where labels are tags of entities.
const ENTITIES: &[Metric] = &[
    Metric::share("f1"),
    Metric::share("precision"),
    Metric::share("recall"),
    Metric::share("macro_f1"),
    Metric::share("accuracy"),
    Metric::loss("loss"),
];
/// Where they are classes of words.
const CLASSES: &[Metric] = &[Metric::share("accuracy"), Metric::share("macro_f1"), Metric::loss("loss")];

/// A label for each word.
#[derive(Clone, Debug)]
pub struct Tagging {
    labels: Labels,
    /// All labels are `O` or tags such as `B-PER`.
    are_entities: bool,
    /// The scheme in which entities are counted, if they are counted strictly.
    strict: Option<Scheme>,
}

/// What it is told.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
struct Options {
    strict: Option<Scheme>,
}

impl Tagging {
    /// With labels of these names.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Tagging> {
        Ok(Tagging::of(Labels::from_names(names.into_iter().map(Into::into).collect())?))
    }
    fn of(labels: Labels) -> Tagging {
        let is_tag =
            |name: &String| name == OUTSIDE || matches!(name.split_once('-'), Some((l, _)) if l.len() == 1);
        let are_entities = labels.names().iter().all(is_tag) && labels.names().iter().any(|n| n != OUTSIDE);
        Tagging { labels, are_entities, strict: None }
    }
    /// The same as it is told. An error if labels are no tags of the scheme.
    fn told(self, told: &Told) -> Result<Tagging> {
        let Options { strict } = told.read(NAME)?;
        let Some(scheme) = strict else { return Ok(self) };
        let refused = |why| Err(Error::Option { option: "strict", value: scheme.to_string(), why });
        if !self.are_entities {
            return refused("the labels are no tags of entities".into());
        }
        let names: Vec<&str> = self.labels.names().iter().map(String::as_str).collect();
        match scheme.entities(&names) {
            Ok(_) => Ok(Tagging { strict, ..self }),
            Err(e) => refused(e.to_string()),
        }
    }
    /// Counts the entities of a sentence.
    fn count(&self, entities: &mut Entities, truth: &[&str], guess: &[&str]) {
        let strictly = self.strict.map(|scheme| scheme.count(entities, truth, guess));
        // an error counts nothing; there is none, as all labels are tags of the scheme
        if !matches!(strictly, Some(Ok(()))) {
            entities.add(truth, guess);
        }
    }
    /// The label of each word of a record, [`IGNORED`] where there is none.
    fn numbers(&self, data: &Dataset, record: &Record, purpose: Purpose) -> Result<Vec<u32>> {
        let labels = match (purpose, &record.label) {
            (Purpose::Predict, _) => return Ok(vec![IGNORED; record.words().len()]),
            (_, Label::Each(labels)) => labels,
            (_, _) => return Err(Error::line(&data.path, record.line, "no labels")),
        };
        let number = |label: &Option<Name>| match label {
            Some(name) => self.labels.number(&data.path, record.line, name),
            None => Ok(IGNORED),
        };
        labels.iter().map(number).collect()
    }
    /// What was chosen for each word of each record; `None` for a word that no window reads.
    fn chosen(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<Vec<Option<usize>>> {
        let words = |r: &Record| match &r.label {
            Label::Each(labels) => labels.len(),
            Label::Numbers(numbers) => numbers.len(),
            _ => r.words().len(),
        };
        let mut all: Vec<_> = data.records.iter().map(|r| vec![None; words(r)]).collect();
        for (e, a) in examples.iter().zip(answers) {
            for (word, class) in e.parts.iter().zip(&a.chosen) {
                if let Some(place) = all.get_mut(e.record).and_then(|words| words.get_mut(*word as usize)) {
                    *place = Some(*class as usize);
                }
            }
        }
        all
    }
    /// What stands for a prediction where there is none.
    fn default(&self) -> usize {
        self.labels.id(OUTSIDE).unwrap_or(0) as usize
    }
    fn tag(&self, chosen: Option<usize>) -> &str {
        self.labels.name(chosen.unwrap_or(self.default()) as u32)
    }
}

impl Task for Tagging {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        TASK.content
    }
    fn labels(&self) -> &[String] {
        self.labels.names()
    }
    fn metrics(&self) -> &[Metric] {
        if self.are_entities { ENTITIES } else { CLASSES }
    }
    fn suits(&self, model: &ModelInfo) -> Result<(), String> {
        match model.kind {
            Kind::EncoderDecoder { .. } => Err("a row of its decoder stands for no word".into()),
            Kind::Encoder | Kind::Decoder => Ok(()),
        }
    }
    fn head(&self, _: &ModelInfo, _: bool) -> Option<Box<dyn HeadConfig>> {
        Some(Box::new(heads::Tagging::new(self.labels.names())))
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        _: &mut Carry,
    ) -> Result<Vec<Example>> {
        let room = tokenizer.max_length().saturating_sub(tokenizer.special_tokens());
        let mut examples = vec![];
        for (number, record) in data.records.iter().enumerate() {
            let (words, labels) = (record.words(), self.numbers(data, record, purpose)?);
            for window in windows(&tokenizer.count_words(words)?, room, room / 4) {
                let read = tokenizer.encode_words(&words[window.words.clone()])?;
                let first = |word: usize| Some((word, read.firsts[word - window.words.start]?));
                let (parts, rows): (Vec<usize>, Vec<u32>) = window.own.clone().filter_map(first).unzip();
                let example = Example {
                    ids: read.tokens.ids,
                    types: read.tokens.types,
                    reads: Reads::These(rows.into_iter().map(|row| row as usize).collect()),
                    labels: parts.iter().map(|word| labels[*word]).collect(),
                    values: vec![],
                    record: number,
                    parts: parts.into_iter().map(|word| word as u32).collect(),
                };
                let is_wanted =
                    if purpose == Purpose::Train { example.is_labelled() } else { example.rows() > 0 };
                if is_wanted {
                    examples.push(example);
                }
            }
        }
        Ok(examples)
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        let labels = match labels {
            None => vec![],
            Some(Given::Each(each)) if each.len() == ids.len() => {
                each.iter().map(|l| classes::numbered(*l, self.labels.len())).collect::<Result<_, _>>()?
            }
            Some(Given::Each(each)) => return Err(format!("{} labels for {} tokens", each.len(), ids.len())),
            Some(_) => return Err("tagging has a list of labels for each sequence".into()),
        };
        Ok(Example::new(ids, Reads::All, labels))
    }
    fn sample(&self, ids: Vec<u32>, draw: &mut dyn FnMut(usize) -> u32) -> Example {
        let labels = ids.iter().map(|_| draw(self.labels.len())).collect();
        Example::new(ids, Reads::All, labels)
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        classes::loss(cx, top, x, batch)
    }
    fn outputs(&self) -> Option<Outputs> {
        Some(Outputs::Classes)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        let mut answers = classes::answers(cx, top, x, batch)?;
        answers.iter_mut().for_each(|a| a.scores = vec![]); // the chosen ones are all that is asked for later
        Ok(answers)
    }
    fn evaluate(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated {
        let (mut confusion, mut entities) = (Confusion::new(self.labels.len()), Entities::new());
        let mut without = 0u64;
        for (record, chosen) in data.records.iter().zip(self.chosen(data, examples, answers)) {
            let number = |label: &Option<Name>| self.labels.find(label.as_ref()?);
            let truth: Vec<Option<u32>> = match &record.label {
                Label::Each(labels) => labels.iter().map(number).collect(),
                Label::Numbers(numbers) => {
                    numbers.iter().map(|n| Some(*n).filter(|n| *n != NO_NUMBER)).collect()
                }
                _ => continue,
            };
            let pairs: Vec<(usize, Option<usize>)> =
                truth.iter().zip(&chosen).filter_map(|(label, c)| Some(((*label)? as usize, *c))).collect();
            without += pairs.iter().filter(|(_, c)| c.is_none()).count() as u64;
            let (truth, guess): (Vec<usize>, Vec<usize>) =
                pairs.into_iter().map(|(t, c)| (t, c.unwrap_or(self.default()))).unzip();
            let names = |classes: &[usize]| -> Vec<&str> {
                classes.iter().map(|class| self.labels.name(*class as u32)).collect()
            };
            self.count(&mut entities, &names(&truth), &names(&guess));
            truth.iter().zip(&guess).for_each(|(t, c)| confusion.add(*t as u32, *c as u32));
        }
        let loss = ("loss", classes::mean_loss(answers));
        let words = json!({"scored": confusion.total(), "without_prediction": without});
        let mut details = Map::from_iter([("words".to_string(), words)]);
        let (scores, lines) = match self.are_entities {
            true => {
                let all = entities.micro();
                let types: Vec<_> = entities.by_type();
                let one = |(kind, f): &(&str, _)| {
                    let mut v = json!(f);
                    v["type"] = (*kind).into();
                    v
                };
                details.insert("entities".into(), Value::Array(types.iter().map(one).collect()));
                details.extend(self.strict.map(|scheme| ("strict".to_string(), scheme.name().into())));
                let scores = [
                    loss,
                    ("f1", all.f1),
                    ("precision", all.precision),
                    ("recall", all.recall),
                    ("macro_f1", entities.macro_mean().f1),
                    ("accuracy", entities.accuracy()),
                ];
                let rows = types.iter().map(|(kind, f)| (*kind, f.precision, f.recall, f.f1, f.support));
                let all = ("all", all.precision, all.recall, all.f1, all.support);
                (scores.to_vec(), table("type", "entities", rows.collect(), Some(all)))
            }
            false => {
                let found = confusion.classes(self.labels());
                details.extend(confusion.details(self.labels()));
                let rows = found.iter().map(|c| (c.label.as_str(), c.precision, c.recall, c.f1, c.support));
                let scores = [loss, ("accuracy", confusion.accuracy()), ("macro_f1", confusion.macro_f1())];
                (scores.to_vec(), table("label", "words", rows.collect(), None))
            }
        };
        let scores =
            crate::reports::metrics::Scores(scores.into_iter().map(|(n, v)| (n.into(), v)).collect());
        Evaluated { metrics: Metrics { scores, examples: data.len() as u64, details }, lines }
    }
    fn by_example(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        let all = Answer::by_record(data, examples, answers).into_iter();
        let chosen = self.chosen(data, examples, answers);
        let one = |(e, (record, chosen)): (ExamplePrediction, (&Record, Vec<Option<usize>>))| {
            let Label::Each(names) = &record.label else { return e };
            let truth = names.iter().map(|name| Some(self.labels.name(self.labels.find(name.as_ref()?)?)));
            let truth: Vec<Option<&str>> = truth.collect();
            let tags: Vec<&str> = chosen.iter().map(|c| self.tag(*c)).collect();
            let (known, said): (Vec<&str>, Vec<&str>) =
                truth.iter().zip(&tags).filter_map(|(truth, tag)| Some(((*truth)?, *tag))).unzip();
            let right = known.iter().zip(&said).filter(|(truth, tag)| truth == tag).count();
            let e = ExamplePrediction { truth: json!(truth), prediction: json!(tags), ..e };
            let e = e.adding("accuracy", Statistic::mean(right as f64, known.len() as f64));
            if !self.are_entities {
                return e;
            }
            let mut entities = Entities::new();
            self.count(&mut entities, &known, &said);
            e.adding("f1", Statistic::f1(entities.statistics()))
        };
        all.zip(data.records.iter().zip(chosen)).map(one).collect()
    }
    fn predictions(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let one = |(record, chosen): (&Record, Vec<Option<usize>>)| {
            let tags: Vec<&str> = chosen.iter().map(|c| self.tag(*c)).collect();
            let pairs = record.words().iter().zip(&tags);
            let lines = pairs.map(|(word, tag)| format!("{}\t{}\n", one_line(word), one_line(tag)));
            Prediction { text: lines.collect(), json: json!({"words": record.words(), "tags": tags}) }
        };
        data.records.iter().zip(self.chosen(data, examples, answers)).map(one).collect()
    }
}

#[cfg(test)]
mod tests;
