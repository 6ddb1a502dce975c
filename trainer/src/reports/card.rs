//! The model card of a run: `README.md` as the Hugging Face hub shows it, in the shape of those of
//! AdapterHub, or of PEFT where the adapter is saved in PEFT's format.
//!
//! A card that somebody wrote, or took the [`MARK`] out of, is theirs and stays.
use super::{
    history::EVAL,
    markdown::{code, python, shell, table, yaml},
    metrics::Metrics,
};
use std::{fmt::Write, path::Path};

/// The file.
pub const FILE: &str = "README.md";
/// What stands in a card of ours.
pub const MARK: &str =
    "<!-- Written by engraft, and with the next run written anew. Without this line it stays as it is. -->";
/// What AdapterHub's tag is called, whatever its library is.
const ADAPTER_HUB: &str = "adapter-transformers";
/// The hub's names of what AdapterHub's types of heads do.
const PIPELINES: [(&str, &str); 9] = [
    ("classification", "text-classification"),
    ("multilabel_classification", "text-classification"),
    ("tagging", "token-classification"),
    ("dependency_parsing", "token-classification"),
    ("question_answering", "question-answering"),
    ("multiple_choice", "multiple-choice"),
    ("causal_lm", "text-generation"),
    ("seq2seq_lm", "text2text-generation"),
    ("masked_lm", "fill-mask"),
];

/// What a card says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card<'a> {
    /// The adapter's name.
    pub name: &'a str,
    /// The backbone, as its users name it.
    pub model: &'a str,
    /// Whether that is a model of the hub.
    pub is_of_hub: bool,
    /// `model_type` of its configuration.
    pub model_type: &'a str,
    /// The names of the files that were saved.
    pub files: Vec<&'a str>,
    /// AdapterHub's type of the head, if one was saved.
    pub head: Option<&'a str>,
    /// How adapters are put together, where there are several.
    pub setup: Option<String>,
    /// What it is: `lora`, `houlsby`, as the configuration has it.
    pub method: Option<&'a str>,
    /// The files of training.
    pub train: Vec<String>,
    /// The files of the evaluation.
    pub eval: Vec<String>,
    /// The evaluation of what was saved.
    pub metrics: Option<&'a Metrics>,
    /// What else there is to know of the training, by name.
    pub training: Vec<(&'a str, String)>,
}

/// What was saved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    AdapterHub,
    Peft,
    Several,
    Head,
    Model,
}

/// Whether the card in a directory may be written: there is none, or it is ours.
pub fn is_ours(directory: &Path) -> bool {
    match std::fs::read(directory.join(FILE)) {
        Ok(text) => text.windows(MARK.len()).any(|part| part == MARK.as_bytes()),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The data set of the hub that a path names, as in `hf:datasets/OWNER/NAME/train.csv`.
fn of_hub(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix("hf:datasets/")?.split(['/', '@', ':']);
    Some(format!("{}/{}", parts.next()?, parts.next()?))
}

/// A data set of the hub, and of a file its name: where it lies says nothing to others.
fn shown(path: &str) -> &str {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    if path.starts_with("hf:") { path } else { name.unwrap_or(path) }
}

impl<'a> Card<'a> {
    /// The same with what the settings of a run say of it: the method, the files, how it was
    /// trained.
    pub fn with_settings(self, keys: &'a [(String, Vec<String>)]) -> Card<'a> {
        const SHOWN: [&str; 6] = ["lr", "schedule", "batch-size", "batch-tokens", "weight-decay", "seed"];
        let of = |key: &str| {
            keys.iter().find(|(k, _)| k == key).map(|(_, values)| &values[..]).unwrap_or_default()
        };
        let shown = keys.iter().filter(|(key, _)| SHOWN.contains(&key.as_str()));
        let mut training = self.training;
        training.extend(shown.map(|(key, values)| (key.as_str(), values.join(" "))));
        let method = of("adapter").first().map(String::as_str);
        Card { method, train: of("train").to_vec(), eval: of("eval").to_vec(), training, ..self }
    }
}

impl Card<'_> {
    fn form(&self) -> Form {
        let has = |name: &str| self.files.contains(&name);
        match () {
            () if has("model.safetensors") => Form::Model,
            () if self.setup.is_some() => Form::Several,
            () if has("adapter_model.safetensors") => Form::Peft,
            () if has("adapter_config.json") => Form::AdapterHub,
            () => Form::Head,
        }
    }
    fn pipeline(&self) -> Option<&'static str> {
        PIPELINES.iter().find(|(head, _)| Some(*head) == self.head).map(|(_, pipeline)| *pipeline)
    }
    /// Data sets of the hub, if all files of training are from there.
    fn datasets(&self) -> Vec<String> {
        let found: Option<Vec<String>> = self.train.iter().map(|path| of_hub(path)).collect();
        let mut found = found.unwrap_or_default();
        found.dedup();
        found
    }
    /// The text of the card.
    pub fn text(&self) -> String {
        let name = code(self.name);
        let what = match self.form() {
            Form::AdapterHub => format!("# Adapter {name} for {}", self.model),
            Form::Several => {
                format!("# Adapters {} for {}", code(self.setup.as_deref().unwrap_or("")), self.model)
            }
            Form::Peft => format!("# PEFT adapter {name} for {}", self.model),
            Form::Head => format!("# Prediction head {name} for {}", self.model),
            Form::Model => format!("# {name}, a fine-tuned {}", self.model),
        };
        let mut text = format!("---\n{}---\n\n{MARK}\n\n{what}\n\n{}\n\n", self.header(), self.about());
        text += &format!("## Usage\n\n{}\n## Architecture & Training\n\n{}\n", self.usage(), self.trained());
        text += &format!("## Evaluation results\n\n{}\n", self.evaluated());
        match self.form() {
            Form::Peft => {
                let version = env!("CARGO_PKG_VERSION");
                text +=
                    &format!("### Framework versions\n\n- engraft {version}, in the format of PEFT 0.21\n");
            }
            _ => text += "## Citation\n\n<!-- Add some description here -->\n",
        }
        text
    }
    /// What stands between the lines of dashes, in YAML.
    fn header(&self) -> String {
        let base = format!("base_model:adapter:{}", self.model);
        let mut tags = match self.form() {
            Form::Peft => vec![base, "transformers".into()],
            Form::Model => vec![self.model_type.into()],
            _ => vec![ADAPTER_HUB.into(), self.model_type.into()],
        };
        let method = self.method.and_then(|method| method.split('[').next());
        tags.extend(method.map(String::from).filter(|_| self.form() == Form::Peft));
        tags.sort();
        let mut header = String::new();
        if self.form() == Form::Peft {
            header += "library_name: peft\n";
        }
        header += &format!("base_model: {}\n", yaml(self.model));
        let mut list = |key: &str, values: &[String]| {
            if !values.is_empty() {
                let values = values.iter().map(|v| format!("- {}\n", yaml(v)));
                header += &format!("{key}:\n{}", values.collect::<String>());
            }
        };
        list("tags", &tags);
        list("datasets", &self.datasets());
        let scores = self.metrics.iter().flat_map(|m| &m.scores.0);
        let names: Vec<String> = scores.map(|(name, _)| name.clone()).filter(|n| n != "loss").collect();
        list("metrics", &names);
        if let Some(pipeline) = self.pipeline() {
            header += &format!("pipeline_tag: {pipeline}\n");
        }
        header + &self.index().unwrap_or_default()
    }
    /// The results for the hub's tables. It refuses a card whose results lack a task, a data set of
    /// the hub or a score, and so they are left out then.
    fn index(&self) -> Option<String> {
        let (task, metrics) = (self.pipeline()?, self.metrics?);
        let found: Vec<String> = self.eval.iter().map(|path| of_hub(path)).collect::<Option<_>>()?;
        let [dataset] = &found[..] else { return None };
        let scores: Vec<_> = metrics.scores.0.iter().filter(|(_, value)| value.is_finite()).collect();
        if scores.is_empty() {
            return None;
        }
        let mut text = format!("model-index:\n- name: {}\n  results:\n", yaml(self.name));
        let _ = write!(text, "  - task:\n      name: {task}\n      type: {task}\n");
        let _ = write!(text, "    dataset:\n      name: {0}\n      type: {0}\n    metrics:\n", yaml(dataset));
        for (name, value) in scores {
            let _ = write!(text, "    - name: {0}\n      type: {0}\n      value: {value}\n", yaml(name));
        }
        Some(text)
    }
    fn about(&self) -> String {
        let head =
            self.head.map(|head| format!(" and includes a prediction head for {}", head.replace('_', " ")));
        let what = match self.form() {
            Form::Peft => "A [PEFT](https://github.com/huggingface/peft) adapter",
            Form::AdapterHub => "An [adapter](https://adapterhub.ml)",
            Form::Several => "[Adapters](https://adapterhub.ml)",
            Form::Head => "A prediction head",
            Form::Model => "A fine-tuned model, made from",
        };
        let (what, head) = match self.form() {
            Form::Model => (format!("{what} {},", code(self.model)), String::new()),
            Form::Head => (format!("{what} for the {} model", code(self.model)), String::new()),
            _ => (format!("{what} for the {} model", code(self.model)), head.unwrap_or_default()),
        };
        let verb = if self.form() == Form::Several { "that were" } else { "that was" };
        let data = |path: &String| match of_hub(path) {
            Some(set) => format!("[{set}](https://huggingface.co/datasets/{set})"),
            None => code(shown(path)),
        };
        let data: Vec<String> = self.train.iter().map(data).collect();
        let on = if data.is_empty() { String::new() } else { format!(" on {}", data.join(", ")) };
        format!("{what} {verb} trained with engraft{on}{head}.")
    }
    fn usage(&self) -> String {
        let (model, name) = (python(self.model), python(self.name));
        let python = match self.form() {
            Form::AdapterHub | Form::Head => {
                let load = match self.form() {
                    Form::Head => "model.load_head(\".\")".into(),
                    _ => format!("adapter_name = model.load_adapter(\".\", load_as={name}, set_active=True)"),
                };
                format!(
                    "In the **[Adapters](https://github.com/Adapter-Hub/adapters)** library, with this directory as the \
                     working directory or its place for the `.`:\n\n```python\nfrom adapters import \
                     AutoAdapterModel\n\nmodel = AutoAdapterModel.from_pretrained({model})\n{load}\n```\n\n"
                )
            }
            Form::Peft => format!(
                "In PEFT, with the class of the model's task for `AutoModel`:\n\n```python\nfrom transformers import \
                 AutoModel\nfrom peft import PeftModel\n\nmodel = \
                 PeftModel.from_pretrained(AutoModel.from_pretrained({model}), \".\")\n```\n\n"
            ),
            Form::Several | Form::Model => String::new(),
        };
        let grafted = match self.form() {
            Form::Model => "--model .".into(),
            _ => {
                let hub = if self.is_of_hub { "hf:" } else { "" };
                format!("--model {} --adapter .", shell(&format!("{hub}{}", self.model)))
            }
        };
        format!("{python}With engraft:\n\n```\nengraft eval {grafted} --data FILE\n```\n")
    }
    fn trained(&self) -> String {
        let mut rows: Vec<(&str, String)> = vec![];
        rows.extend(self.method.map(|method| ("method", method.to_string())));
        rows.extend(self.training.iter().map(|(name, value)| (*name, value.clone())));
        table(["", "value"], rows.into_iter().map(|(name, value)| [name.to_string(), value]))
    }
    fn evaluated(&self) -> String {
        let Some(metrics) = self.metrics else { return "There was no evaluation.\n".into() };
        let on: Vec<String> = self.eval.iter().map(|path| code(shown(path))).collect();
        let on = if on.is_empty() { String::new() } else { format!(" of {}", on.join(", ")) };
        let value = |value: f64| if value.is_finite() { format!("{value:.4}") } else { "undefined".into() };
        let rows = metrics.scores.0.iter().map(|(name, x)| [format!("{EVAL}{name}"), value(*x)]);
        format!("On {} examples{on}:\n\n{}", metrics.examples, table(["score", "value"], rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card<'a>(files: &[&'a str], metrics: &'a Metrics) -> Card<'a> {
        Card {
            name: "mood",
            model: "google/bert_uncased",
            model_type: "bert",
            files: files.to_vec(),
            head: Some("multilabel_classification"),
            method: Some("lora[r=8]"),
            is_of_hub: true,
            train: vec!["/home/somebody/train.tsv".into()],
            eval: vec!["eval.tsv".into()],
            metrics: Some(metrics),
            training: vec![("steps", "12".into()), ("a|b", "c\nd".into())],
            ..Card::default()
        }
    }
    fn metrics() -> Metrics {
        let scores = [("loss", 0.5), ("accuracy", 0.75), ("f1", f64::NAN)].into();
        Metrics { scores, examples: 4, ..Metrics::default() }
    }

    #[test]
    fn an_adapter_of_adapterhub() {
        let metrics = metrics();
        let text = card(&["adapter_config.json", "head_config.json"], &metrics).text();
        for part in [
            "---\nbase_model: google/bert_uncased\ntags:\n- adapter-transformers\n- bert\nmetrics:\n- accuracy\n- f1\n\
             pipeline_tag: text-classification\n---\n",
            "# Adapter `mood` for google/bert_uncased\n",
            "trained with engraft on `train.tsv` and includes a prediction head for multilabel classification.",
            "AutoAdapterModel.from_pretrained(\"google/bert_uncased\")\nadapter_name = model.load_adapter(\".\"",
            "engraft eval --model hf:google/bert_uncased --adapter . ",
            "## Architecture & Training\n",
            "| method | lora[r=8] |",
            "| a\\|b | c d |",
            "On 4 examples of `eval.tsv`:",
            "| eval_accuracy | 0.7500 |\n| eval_f1 | undefined |",
            "## Citation",
            MARK,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("model-index") && !text.contains("somebody"), "{text}");
    }

    #[test]
    fn the_hub_gets_results_that_are_complete() {
        let metrics = metrics();
        let hub = |path: &str| vec![path.to_string()];
        let mut card = card(&["adapter_config.json"], &metrics);
        (card.train, card.eval) =
            (hub("hf:datasets/glue/sst2/train.tsv"), hub("hf:datasets/glue/sst2@main/dev.tsv"));
        let text = card.text();
        for part in [
            "datasets:\n- glue/sst2\n",
            "model-index:\n- name: mood\n  results:\n  - task:\n      name: text-classification\n",
            "    dataset:\n      name: glue/sst2\n      type: glue/sst2\n",
            "    - name: accuracy\n      type: accuracy\n      value: 0.75\n",
            "[glue/sst2](https://huggingface.co/datasets/glue/sst2)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("type: f1"), "what is undefined is no result");
        for incomplete in [
            Card { head: None, ..card.clone() },
            Card { metrics: None, ..card.clone() },
            Card { eval: vec![], ..card.clone() },
            Card { eval: hub("dev.tsv"), ..card.clone() },
        ] {
            assert!(!incomplete.text().contains("model-index"), "{incomplete:?}");
        }
    }

    #[test]
    fn other_forms() {
        let metrics = metrics();
        let peft = card(&["adapter_config.json", "adapter_model.safetensors"], &metrics).text();
        assert!(peft.starts_with("---\nlibrary_name: peft\nbase_model: google/bert_uncased\n"), "{peft}");
        for part in [
            "tags:\n- \"base_model:adapter:google/bert_uncased\"\n- lora\n- transformers\n",
            "in the format of PEFT",
        ] {
            assert!(peft.contains(part), "{peft}");
        }
        let head = card(&["head_config.json"], &metrics).text();
        assert!(head.contains("# Prediction head `mood`") && head.contains("model.load_head"), "{head}");
        let full = card(&["model.safetensors"], &metrics).text();
        assert!(full.contains("a fine-tuned google") && full.contains("engraft eval --model . "), "{full}");
        let setup = Card { setup: Some("Stack(a, b)".into()), ..card(&["adapter_setup.json"], &metrics) };
        assert!(setup.text().contains("# Adapters `Stack(a, b)` for"), "{}", setup.text());
    }

    #[test]
    fn a_card_of_somebody_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_ours(folder.path()), "there is none");
        std::fs::write(folder.path().join(FILE), card(&[], &metrics()).text()).unwrap();
        assert!(is_ours(folder.path()));
        std::fs::write(folder.path().join(FILE), "# Mine\n").unwrap();
        assert!(!is_ours(folder.path()));
    }
}
