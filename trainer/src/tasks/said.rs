//! What tasks share whose answers are texts that are generated: how these are compared with the
//! texts of the data.
//!
//! ROUGE is the mean over the texts, BLEU and chrF are those of the whole corpus; of several
//! references all count. rougeLsum takes what [`sentences`] splits for sentences.
use super::{
    one_line::one_line,
    task::{Answer, Evaluated, Prediction, Said},
    tokens,
};
use crate::{
    data::{Dataset, Record},
    reports::{
        by_example::{ExamplePrediction, Statistic},
        metrics::{Metric, Metrics, Scores},
        scores::{
            bleu::{self, Bleu},
            chrf::{self, Kind},
            rouge::{self, Rouge, has_words, rouge, sentences},
            significance::{bootstrap, draws, mean},
        },
    },
    text::{example::Example, examples::Examples},
};
use serde_json::{Map, Value, json};

/// The scores without texts.
pub const OF_TOKENS: &[Metric] = &[tokens::METRICS[1], tokens::METRICS[0], tokens::METRICS[2]];
/// The scores with them.
pub const OF_TEXTS: &[Metric] = &[
    OF_TOKENS[0],
    OF_TOKENS[1],
    OF_TOKENS[2],
    rouge::METRICS[0],
    rouge::METRICS[1],
    rouge::METRICS[2],
    rouge::METRICS[3],
    bleu::METRICS[0],
    chrf::METRICS[0],
    chrf::METRICS[1],
];
/// The kinds of chrF, in the order of their scores.
const KINDS: [Kind; 2] = [Kind::Chrf2, Kind::Chrf2PlusPlus];
/// Tokens of a generated text, on average.
const LENGTH: &str = "gen_len";
/// How often ROUGE is resampled, and from which numbers.
const RESAMPLED: (usize, u64) = (1000, 42);

/// For each record the first of those that follow each other with its source, if they go together;
/// else itself.
pub fn leaders(data: &Dataset, go_together: bool) -> Vec<usize> {
    let mut all: Vec<usize> = vec![];
    for (i, record) in data.records.iter().enumerate() {
        let goes_on = go_together && i > 0 && data.records[i - 1].input == record.input;
        all.push(if goes_on { all[i - 1] } else { i });
    }
    all
}

/// Of each example the prompt that `of` makes of it, if its record stands for those that go with
/// it.
pub fn prompts(
    data: &Dataset,
    examples: &Examples,
    go_together: bool,
    of: impl Fn(Example) -> Vec<u32>,
) -> Vec<Option<Vec<u32>>> {
    let leaders = leaders(data, go_together);
    let leads = |record: usize| leaders.get(record).is_some_and(|leader| *leader == record);
    examples.iter().map(|e| leads(e.record).then(|| of(e))).collect()
}

/// How probable the targets are, and how much the texts that were generated are like them, if there
/// are some.
pub fn evaluate(data: &Dataset, examples: &Examples, answers: &[Answer], go_together: bool) -> Evaluated {
    let (mut scores, tokens) = tokens::scores(answers);
    let mut details = Map::from_iter([("scored_tokens".to_string(), json!(tokens))]);
    let of = |name: &str| scores.iter().find(|(n, _)| n == name).map_or(f64::NAN, |(_, value)| *value);
    let mut lines = vec![format!(
        "perplexity {:.4}, accuracy {:.2} %, {tokens} tokens of targets scored",
        of("perplexity"),
        100.0 * of("accuracy")
    )];
    let said = compared(data, examples, answers, go_together);
    if !said.is_empty() {
        let compared = Compared::of(&said.into_iter().map(|(_, one)| one).collect::<Vec<_>>());
        scores.extend(compared.scores.0);
        details.extend(compared.details);
        lines.extend(compared.lines);
    }
    Evaluated { metrics: Metrics { scores: Scores(scores), examples: data.len() as u64, details }, lines }
}

/// A generated text beside those of the data.
type Beside<'a> = (&'a Said, Vec<&'a str>);

/// Every text that was generated, with its place among the answers and the targets of all records
/// that its own stands for.
fn compared<'a>(
    data: &'a Dataset,
    examples: &Examples,
    answers: &'a [Answer],
    go_together: bool,
) -> Vec<(usize, Beside<'a>)> {
    let mut references: Vec<Vec<&str>> = vec![vec![]; data.records.len()];
    for (record, leader) in data.records.iter().zip(leaders(data, go_together)) {
        references[leader].extend(record.answers().iter().map(String::as_str));
    }
    let mut of =
        |e: usize| references.get_mut(examples.get(e).record).map(std::mem::take).unwrap_or_default();
    let said = answers.iter().enumerate().filter_map(|(i, a)| Some((i, a.said.as_ref()?)));
    said.map(|(i, said)| (i, (said, of(i)))).filter(|(_, (_, references))| !references.is_empty()).collect()
}

struct Compared {
    scores: Scores,
    details: Map<String, Value>,
    lines: Vec<String>,
}
impl Compared {
    fn of(said: &[Beside<'_>]) -> Compared {
        let (texts, references): (Vec<&str>, Vec<&[&str]>) =
            said.iter().map(|(said, references)| (said.text.as_str(), &references[..])).unzip();
        let of_each = texts.iter().zip(&references).filter_map(|(text, references)| {
            rouge(&sentences(text), &references.iter().map(|r| sentences(r)).collect::<Vec<_>>())
        });
        let of_each: Vec<Rouge> = of_each.collect();
        let mut scores = Rouge::mean(&of_each).unwrap_or_default().scores().0;
        let of_all = Bleu::corpus(&texts, &references);
        scores.extend(of_all.iter().flat_map(|b| b.scores().0));
        for (kind, metric) in KINDS.into_iter().zip(&chrf::METRICS) {
            let score = kind.corpus(&texts, &references).unwrap_or(f64::NAN);
            scores.push((metric.name.into(), score));
        }
        let length = said.iter().map(|(said, _)| said.tokens as f64).sum::<f64>() / said.len() as f64;
        scores.push((LENGTH.into(), length));

        let shown: Vec<String> = scores.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        let mut lines = vec![format!("{} texts generated: {}", said.len(), shown.join(", "))];
        lines.extend(of_all.iter().map(|b| format!("{b} {}", bleu::signature(&references))));
        let mut details = Map::new();
        details.insert("generated".into(), json!(said.len()));
        details.insert("rouge".into(), intervals(&of_each));
        details.insert("bleu_details".into(), json!(of_all.map(|b| b.to_string())));
        let signatures = [("bleu", bleu::signature(&references))].into_iter().chain(
            KINDS.iter().zip(&chrf::METRICS).map(|(kind, metric)| (metric.name, kind.signature(&references))),
        );
        let signatures: Map<String, Value> = signatures.map(|(name, s)| (name.into(), json!(s))).collect();
        details.insert("signatures".into(), signatures.into());
        let unseen = references.iter().filter(|all| !all.iter().any(|text| has_words(text))).count();
        if unseen > 0 {
            let warning = format!(
                "{unseen} of {} texts have no reference with a letter of a to z or a digit: ROUGE knows no others, and is 0 there whatever is said",
                said.len()
            );
            lines.push(format!("warning: {warning}"));
            details.insert("warnings".into(), json!([warning]));
        }
        Compared { scores: Scores(scores), details, lines }
    }
}

/// Precision, recall and F1 of each kind of ROUGE in percent, and where F1 lies with a confidence
/// of 95 %.
fn intervals(all: &[Rouge]) -> Value {
    let Some(of_all) = Rouge::mean(all) else { return Value::Null };
    let kinds: [fn(&Rouge) -> rouge::Overlap; 4] =
        [|r| r.rouge1, |r| r.rouge2, |r| r.rouge_l, |r| r.rouge_l_sum];
    let (trials, seed) = RESAMPLED;
    let one = |(metric, kind): (&Metric, fn(&Rouge) -> rouge::Overlap)| {
        let statistics: Vec<[f64; 2]> = all.iter().map(|r| [100.0 * kind(r).f1, 1.0]).collect();
        let resampled = bootstrap(&statistics, mean, trials, draws(seed));
        let interval = resampled.map(|r| [r.interval.low, r.interval.high]);
        let o = kind(&of_all);
        let [precision, recall, f1] = [o.precision, o.recall, o.f1].map(|x| 100.0 * x);
        (
            metric.name.to_string(),
            json!({"precision": precision, "recall": recall, "f1": f1, "interval": interval}),
        )
    };
    Value::Object(rouge::METRICS.iter().zip(kinds).map(one).collect())
}

/// For each record its target and the text that was generated for it, or for the one that stands for
/// it, if there is one. A text counts once, at the first of its records, with all their targets.
pub fn by_example(
    data: &Dataset,
    examples: &Examples,
    answers: &[Answer],
    go_together: bool,
) -> Vec<ExamplePrediction> {
    let mut of_each: Vec<Option<Beside<'_>>> = vec![None; answers.len()];
    let said = compared(data, examples, answers, go_together);
    said.into_iter().for_each(|(i, one)| of_each[i] = Some(one));
    let all = Answer::by_record(data, examples, answers).into_iter().zip(leaders(data, go_together));
    let one = |((e, leader), (a, beside)): ((ExamplePrediction, usize), (&Answer, Option<Beside<'_>>))| {
        let mut e = tokens::adding(e, a);
        let said = answers.get(leader).and_then(|a| a.said.as_ref());
        e.prediction = said.map_or(Value::Null, |said| said.text.as_str().into());
        let Some((said, references)) = beside else { return e };
        let (split, text) = (references.iter().map(|r| sentences(r)).collect::<Vec<_>>(), said.text.as_str());
        for (name, f1) in rouge(&sentences(text), &split).iter().flat_map(|r| r.scores().0) {
            e = e.adding(&name, Statistic::mean(f1, 1.0));
        }
        if let Some(segment) = bleu::segment(text, &references) {
            e = e.adding(bleu::METRICS[0].name, Statistic::bleu(&segment));
        }
        for (kind, metric) in KINDS.into_iter().zip(&chrf::METRICS) {
            if let Some(segment) = kind.segment(text, &references) {
                e = e.adding(metric.name, Statistic::chrf(&segment));
            }
        }
        e.adding(LENGTH, Statistic::mean(said.tokens as f64, 1.0))
    };
    all.zip(answers.iter().zip(of_each)).map(one).collect()
}

/// What was generated for each record, or for the one that stands for it.
pub fn predictions(data: &Dataset, answers: &[Answer], go_together: bool) -> Vec<Prediction> {
    let none = Said::default();
    let one = |(record, leader): (&Record, usize)| {
        let said = answers.get(leader).and_then(|answer| answer.said.as_ref()).unwrap_or(&none);
        let source = record.text();
        Prediction {
            text: one_line(&said.text).into_owned(),
            json: json!({"text": source, "generated": said.text, "tokens": said.tokens}),
        }
    };
    data.records.iter().zip(leaders(data, go_together)).map(one).collect()
}
