//! Extractive question answering: the part of a text that answers a question, or that none does.
//!
//! A text that is too long for a sequence is read in windows that overlap, each behind the question,
//! and all windows of a question are looked at for its answer ([`super::extraction`]). A window has two
//! scores for each of its rows, and its loss is the mean of two cross-entropies over all its rows: of
//! the start and of the end of the answer. It has one label, so that losses are means over windows:
//! the row in which the answer starts is labelled with how many rows further it ends, and no other row
//! is. In a window without the answer that is its first row, with 0. What the library's scripts set
//! apart by two numbers is one number here.
//!
//! Questions may have no answer (SQuAD 2.0) if that is said, or if it is not said in an evaluation of
//! data in which one has none.
use super::{
    classes,
    extraction::{BestRows, Extracted, Rules, Window, best_rows, extract, rows_of, targets},
    one_line::one_line,
    rows,
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType},
    top::Top,
};
use crate::{
    Error, Result,
    data::{Content, Dataset, Input, Label, Record, Span},
    reports::{
        by_example::{ExamplePrediction, Statistic},
        metrics::{Metric, Metrics, Scores},
        scores::squad::{Question, v1, v2},
    },
    text::{
        batch::Batch,
        beside::TextWindow,
        example::{Example, IGNORED, Reads},
        examples::Examples,
        tokenizer::Tokenizer,
    },
};
use engraft_adapters::{HeadConfig, heads};
use engraft_engine::{Act, Cx};
use engraft_models::ModelInfo;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The registry row.
pub(super) const TASK: TaskType = TaskType {
    name: NAME,
    help: "The part of a text that answers a question",
    content: Content::Questions,
    labelled: true,
    classes: false,
    does: |head| head.head_type() == "question_answering",
    headless: false,
    learn: |_, _, told| Ok(Box::new(told.read::<QuestionAnswering>(NAME)?.checked()?)),
    known: |_, told| Ok(Box::new(told.read::<QuestionAnswering>(NAME)?.checked()?)),
};
const NAME: &str = "question-answering";
/// In percent, as the official scripts have them.
const METRICS: &[Metric] = &[Metric::number("f1"), Metric::number("exact_match"), Metric::loss("loss")];
/// Where there may be no answer.
const METRICS_2: &[Metric] = &[
    Metric::number("f1"),
    Metric::number("exact_match"),
    Metric::number("HasAns_f1"),
    Metric::number("HasAns_exact"),
    Metric::number("NoAns_f1"),
    Metric::number("NoAns_exact"),
    Metric::number("best_f1"),
    Metric::number("best_exact"),
    Metric::loss("loss"),
];

/// The part of a text that answers a question.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct QuestionAnswering {
    /// How many tokens of the text windows share that follow each other; a third of the most that a
    /// sequence has if it is not said, which is 128 of 384.
    pub doc_stride: Option<usize>,
    /// How many answers are kept, and how many starts and ends of a window are looked at.
    pub n_best: usize,
    /// The most tokens of an answer.
    pub max_answer_length: usize,
    /// The answer is "none" if its score is above that of the best answer by more than this.
    pub null_score_diff_threshold: f64,
    /// Whether questions may have no answer; if it is not said, an evaluation finds it in its data.
    pub version_2: Option<bool>,
}
impl Default for QuestionAnswering {
    /// As transformers' scripts.
    fn default() -> Self {
        Self {
            doc_stride: None,
            n_best: 20,
            max_answer_length: 30,
            null_score_diff_threshold: 0.0,
            version_2: None,
        }
    }
}
impl QuestionAnswering {
    fn checked(self) -> Result<Self> {
        for (option, value) in [("n-best", self.n_best), ("max-answer-length", self.max_answer_length)] {
            if value == 0 {
                return Err(Error::Option { option, value: "0".into(), why: "it is at least 1".into() });
            }
        }
        if !self.null_score_diff_threshold.is_finite() {
            let (option, value) = ("null-score-diff-threshold", self.null_score_diff_threshold.to_string());
            return Err(Error::Option { option, value, why: "it is a number".into() });
        }
        Ok(self)
    }
    fn rules(&self, may_be_none: bool) -> Rules {
        let (n_best, max_length) = (self.n_best, self.max_answer_length);
        Rules { n_best, max_length, may_be_none, threshold: self.null_score_diff_threshold }
    }
    /// The example of a window, if something is learned from it or asked of it.
    fn window(
        &self,
        record: usize,
        window: TextWindow,
        spans: Option<&[Span]>,
        keeps: bool,
    ) -> Option<Example> {
        let TextWindow { tokens, places } = window;
        let answer = match spans.map(|all| all.first()) {
            None => None,
            Some(None) => Some(None),
            Some(Some(first)) => first.range.map(Some),
        };
        let mut labels = vec![IGNORED; tokens.ids.len()];
        if labels.is_empty() {
            return None;
        }
        if let Some(answer) = answer {
            let (start, end) = rows_of(answer, &places);
            labels[start] = (end - start) as u32;
        } else if !keeps {
            return None; // its answer does not stand where it should
        }
        let parts = match keeps {
            true => places.iter().flat_map(|p| p.map_or([0; 2], |(from, to)| [from + 1, to + 1])).collect(),
            false => vec![],
        };
        let types = tokens.types;
        Some(Example { types, record, parts, ..Example::new(tokens.ids, Reads::All, labels) })
    }
    /// How many questions of a data set have no answer, and whether that is to be found.
    fn without(&self, data: &Dataset) -> (usize, bool) {
        let without = data.records.iter().filter(|r| spans(r).is_some_and(<[Span]>::is_empty)).count();
        (without, self.version_2.unwrap_or(without > 0))
    }
    /// The answers to every question, from those of its windows.
    fn extracted(
        &self,
        data: &Dataset,
        examples: &Examples,
        answers: &[Answer],
        may_be_none: bool,
    ) -> Vec<Extracted> {
        let mut windows: Vec<Vec<Window>> = vec![vec![]; data.records.len()];
        for (e, a) in examples.iter().zip(answers) {
            let place = |part: &[u32]| match part {
                [from, to] => Some((from.checked_sub(1)? as usize, to.checked_sub(1)? as usize)),
                _ => None,
            };
            if let Some(own) = windows.get_mut(e.record) {
                own.push((kept(a), e.parts.chunks(2).map(place).collect()));
            }
        }
        let one = |(record, windows): (&Record, Vec<Window>)| {
            extract(record.pair().unwrap_or_default(), &windows, self.rules(may_be_none))
        };
        data.records.iter().zip(windows).map(one).collect()
    }
}

/// What an answer keeps of a window: rows, and the scores of the first row and of these.
fn keep(best: BestRows) -> (Vec<u32>, Vec<f32>) {
    let both = || best.starts.iter().chain(&best.ends);
    let null = [best.null.0, best.null.1].into_iter();
    (both().map(|(row, _)| *row).collect(), null.chain(both().map(|(_, score)| *score)).collect())
}
fn kept(answer: &Answer) -> BestRows {
    let [a, b, scores @ ..] = &answer.scores[..] else { return BestRows::default() };
    let all: Vec<(u32, f32)> = answer.chosen.iter().copied().zip(scores.iter().copied()).collect();
    let (starts, ends) = all.split_at(all.len() / 2);
    BestRows { null: (*a, *b), starts: starts.to_vec(), ends: ends.to_vec() }
}
/// A question with its right answers and the one that is given.
fn question<'a>((record, found): (&'a Record, &'a Extracted)) -> Question<'a> {
    let answers = spans(record).unwrap_or_default().iter().map(|span| span.text.as_str());
    Question { answers: answers.collect(), prediction: Some(&found.answer) }
}
/// The answers that are known to be right; none if that is not known.
fn spans(record: &Record) -> Option<&[Span]> {
    if let Label::Spans(spans) = &record.label { Some(spans) } else { None }
}

impl Task for QuestionAnswering {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        TASK.content
    }
    fn metrics(&self) -> &[Metric] {
        if self.version_2 == Some(true) { METRICS_2 } else { METRICS }
    }
    fn limits(&self, max_length: usize) -> String {
        format!("at the end of the question, for room for the text in {max_length} tokens (--max-length)")
    }
    fn head(&self, _: &ModelInfo, linear: bool) -> Option<Box<dyn HeadConfig>> {
        let hub = heads::QuestionAnswering::default();
        Some(Box::new(match linear {
            true => heads::QuestionAnswering { activation_function: None, ..hub },
            false => hub,
        }))
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>> {
        let (mut examples, mut narrow) = (vec![], 0);
        let overlap = self.doc_stride.unwrap_or(tokenizer.max_length() / 3);
        let all = tokenizer.encode_questions(data, overlap)?;
        for (number, (record, windows)) in data.records.iter().zip(all).enumerate() {
            let spans = match (purpose, spans(record)) {
                (Purpose::Predict, _) => None,
                (_, None) => return Err(Error::line(&data.path, record.line, "no answers")),
                (_, spans) => spans,
            };
            carry.cut += usize::from(windows.is_cut);
            narrow += usize::from(windows.is_narrow);
            let keeps = purpose != Purpose::Train;
            let own = windows.all.into_iter().filter_map(|w| self.window(number, w, spans, keeps));
            examples.extend(own);
        }
        if narrow > 0 {
            carry.notes.insert(format!(
                "windows of {overlap} shared tokens (--doc-stride) leave no step: where that is so, half of \
                 the room behind the question is shared"
            ));
        }
        Ok(examples)
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        let mut each = vec![IGNORED; ids.len()];
        match labels {
            None => {}
            Some(Given::Each(both)) => match both[..] {
                [start, end] if start < 0 && end < 0 => {}
                [start, end] if 0 <= start && start <= end && (end as usize) < ids.len() => {
                    each[start as usize] = (end - start) as u32;
                }
                _ => return Err(format!("{both:?} is no start and end within {} tokens", ids.len())),
            },
            Some(_) => return Err("an answer has a list of its start and its end".into()),
        }
        Ok(Example::new(ids, Reads::All, each))
    }
    fn sample(&self, ids: Vec<u32>, draw: &mut dyn FnMut(usize) -> u32) -> Example {
        let mut labels = vec![IGNORED; ids.len()];
        let start = draw(ids.len()) as usize;
        let further = draw(ids.len().saturating_sub(start));
        labels.get_mut(start).into_iter().for_each(|label| *label = further);
        Example::new(ids, Reads::All, labels)
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        rows::loss(cx, top, x, batch, &targets(batch))
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        rows::answers(cx, top, x, batch, &targets(batch), |columns| {
            let [starts, ends] = columns else { return (vec![], vec![]) };
            keep(best_rows(starts, ends, self.n_best))
        })
    }
    fn needs_records(&self) -> bool {
        true
    }
    fn evaluate(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated {
        let (without, may_be_none) = self.without(data);
        let extracted = self.extracted(data, examples, answers, may_be_none);
        let questions: Vec<Question<'_>> = data.records.iter().zip(&extracted).map(question).collect();
        let odds: Vec<f64> = extracted.iter().map(|e| e.null_odds.unwrap_or_default()).collect();
        let mut scores = vec![("loss".to_string(), classes::mean_loss(answers))];
        let found = match may_be_none {
            true => v2(&questions, Some(&odds), None).map(|v2| v2.scores()),
            false => v1(&questions).map(|v1| v1.scores()),
        };
        let Scores(found) = found.unwrap_or_default();
        let named = |(name, value)| (if name == "exact" { "exact_match".to_string() } else { name }, value);
        scores.extend(found.into_iter().map(named));
        let read = json!({"questions": data.len(), "without_answer": without, "windows": examples.len()});
        let details = Map::from_iter([("read".to_string(), read)]);
        let counted = format!(
            "{} questions in {} windows, {without} of them without an answer",
            data.len(),
            examples.len()
        );
        let metrics = Metrics { scores: Scores(scores), examples: data.len() as u64, details };
        let shown = METRICS_2.iter().filter_map(|m| Some(m.show(metrics.scores.get(m.name)?)));
        let shown = shown.collect::<Vec<_>>().join(", ");
        Evaluated { metrics, lines: vec![shown, counted] }
    }
    fn by_example(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        let (_, may_be_none) = self.without(data);
        let extracted = self.extracted(data, examples, answers, may_be_none);
        let one = |(e, (record, found)): (ExamplePrediction, (&Record, &Extracted))| {
            let question = question((record, found));
            let scored = if may_be_none { question.v2() } else { question.v1() };
            let in_percent = |score: f64| Statistic::mean(100.0 * score, 1.0);
            let scores = found.null_odds.map_or(Value::Null, |odds| json!({"null_odds": odds}));
            let e = ExamplePrediction { prediction: found.answer.as_str().into(), scores, ..e };
            e.adding("f1", in_percent(scored.f1)).adding("exact_match", in_percent(scored.exact))
        };
        let all = Answer::by_record(data, examples, answers).into_iter();
        all.zip(data.records.iter().zip(&extracted)).map(one).collect()
    }
    fn predictions(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let may_be_none = self.version_2 == Some(true);
        let all = self.extracted(data, examples, answers, may_be_none);
        let one = |(record, e): (&Record, Extracted)| {
            let Input::Question { id, question, .. } = &record.input else {
                return Prediction { json: Value::Null, text: String::new() };
            };
            let place = |range: Option<(usize, usize)>| json!({"start": range.map(|r| r.0), "end": range.map(|r| r.1)});
            let with = |mut to: Value, range| {
                if let (Value::Object(to), Value::Object(place)) = (&mut to, place(range)) {
                    to.extend(place);
                }
                to
            };
            let best = e.n_best.iter().map(|c| {
                let (start, end) = c.logits;
                let own = json!({"text": c.text, "start_logit": start, "end_logit": end, "probability": c.probability});
                with(own, c.range)
            });
            let own = json!({"id": id, "question": question, "answer": e.answer, "n_best": best.collect::<Vec<_>>()});
            let mut own = with(own, e.range);
            if let Some(odds) = e.null_odds {
                own["null_odds"] = odds.into();
            }
            let text = format!("{}\t{}\t{}", one_line(id), one_line(&e.answer), one_line(question));
            Prediction { json: own, text }
        };
        data.records.iter().zip(all).map(one).collect()
    }
}
