//! `engraft memory`.
use crate::program::{
    args::Memory,
    graft::shape,
    options::{ActivationsChoice, AdapterChoice, Backend, Methods, Options},
    print::say,
    setup::{length, open, open_backbone, task},
};
use anyhow::{Context, Result, bail};
use engraft::{
    adapters::parse,
    choice::Choice,
    hub::{Need, find},
    learner::Graft,
    reports::{
        bytes::Bytes,
        process::{peak_rss_bytes, rss_bytes, rss_of_files_bytes},
        progress::Mode,
        report::json_line,
    },
    run::{
        account::{Account, account},
        adapter_drop::AdapterDrop,
    },
    tasks::TASKS,
    text::batch::Batch,
};
use engraft_engine::Device;
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

/// What a process that measures reports.
#[derive(Serialize, Deserialize)]
struct Measured {
    /// What the ledger counted.
    ledger: Account,
    /// The process before it loaded the model, and at its largest; none where the system does not
    /// say.
    rss_before_bytes: Option<u64>,
    rss_peak_bytes: Option<u64>,
    /// What came of files in between: code that ran for the first time.
    code_bytes: Option<u64>,
}
impl Measured {
    fn growth(&self) -> Option<u64> {
        self.rss_peak_bytes?.checked_sub(self.rss_before_bytes? + self.code_bytes?)
    }
}
/// A method with a policy.
#[derive(Serialize)]
struct Row {
    method: String,
    activations: String,
    predicted: Account,
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger_equals_predicted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_growth_bytes: Option<u64>,
    #[serde(flatten)]
    measured: Option<Measured>,
}
#[derive(Serialize)]
struct Table<'a> {
    model: &'a std::path::Path,
    batch: usize,
    length: usize,
    threads: usize,
    rows: Vec<Row>,
    /// Methods that this model cannot have, if none were asked for by name.
    left_out: Vec<LeftOut>,
}
#[derive(Serialize)]
struct LeftOut {
    method: String,
    why: String,
}

/// What two steps on synthetic tokens hold on a device, and the tokens of each text.
fn ask(
    m: &Memory,
    method: &AdapterChoice,
    activations: ActivationsChoice,
    device: &Device,
) -> engraft::Result<(usize, Account)> {
    let (model, adapter) = (Some(m.model.clone()), Some(method.clone()));
    let max_target_length = m.max_target_length;
    let s = Options { model, adapter, max_target_length, ..m.stored.options() }.resolve()?;
    let backbone = open_backbone(&s, device)?;
    let info = backbone.model().info().clone();
    let kind = task(m.task.as_ref())?.unwrap_or(TASKS[0]);
    let task = (kind.known)(["0", "1"].map(String::from).to_vec(), &s.told())?;
    let fields = shape(m.bottleneck, m.reduction_factor.as_ref(), &backbone)?;
    let adapter = match method {
        AdapterChoice::Of(text) => Some(parse(text, &fields)?),
        AdapterChoice::None | AdapterChoice::Full => None,
    };
    let graft =
        Graft { name: "memory".into(), adapter, head: task.head(&info, true), seed: 0, ..Graft::default() };
    let length = length(&backbone, m.length)?;
    let (mut id, mut label) = (0, 0);
    let mut examples = vec![];
    for _ in 0..m.batch {
        let ids: Vec<u32> = (id..id + length).map(|i| (i * 7919 % info.vocabulary) as u32).collect();
        id += length;
        examples.push(task.sample(ids, &mut |n| {
            label += 1;
            (label - 1) % n.max(1) as u32
        }));
    }
    let batch: Batch = examples.into_iter().collect();
    let mut learner = backbone.learner(graft, task)?;
    Ok((length, account(&mut learner, &batch, activations.into(), dropped(m, method))?))
}

/// What a method may leave out of its steps: there is nothing to be left out without an adapter.
fn dropped(m: &Memory, method: &AdapterChoice) -> Option<AdapterDrop> {
    m.adapter_drop.filter(|_| matches!(method, AdapterChoice::Of(_)))
}
/// What is trained, as `--methods` calls it.
fn method_name(method: &AdapterChoice) -> &str {
    match method {
        AdapterChoice::Of(text) => text,
        AdapterChoice::None => "head",
        AdapterChoice::Full => "full",
    }
}

pub fn run(m: &Memory) -> Result<()> {
    if m.here {
        let [(method, activations)] = &pairs(m)[..] else { bail!("--here measures one method and policy") };
        let (rss_before_bytes, files) = (rss_bytes(), rss_of_files_bytes());
        let device = open(Backend::Cpu, m.threads)?;
        let (_, ledger) = ask(m, method, *activations, &device)?;
        let code_bytes = rss_of_files_bytes().zip(files).map(|(now, before)| now.saturating_sub(before));
        let rss_peak_bytes = peak_rss_bytes();
        return say(&json_line(&Measured { ledger, rss_before_bytes, rss_peak_bytes, code_bytes }));
    }
    let threads = open(Backend::Cpu, m.threads)?.threads();
    // what is predicted before it is measured is of the same files
    let need = if m.measure { Need::Whole } else { Need::Companions };
    let named = m.model.as_path();
    let m = &Memory { model: find(named, need, Mode::detect(false))?.directory, ..m.clone() };
    let (mut rows, mut length, mut left_out) = (vec![], 0, Vec::<LeftOut>::new());
    for (method, activations) in pairs(m) {
        if left_out.iter().any(|l| l.method == method_name(&method)) {
            continue;
        }
        let (tokens, predicted) = match ask(m, &method, activations, &Device::null(threads)) {
            // one that has no place in this model, or none in so many layers
            Err(
                why @ (engraft::Error::Adapters(_) | engraft::Error::Option { option: "adapter-drop", .. }),
            ) if m.methods.is_none() => {
                left_out.push(LeftOut { method: method_name(&method).into(), why: why.to_string() });
                continue;
            }
            asked => asked?,
        };
        length = tokens;
        let measured =
            if m.measure { Some(measure(m, length, &method, activations, threads)?) } else { None };
        rows.push(Row {
            method: method_name(&method).into(),
            activations: activations.name().into(),
            ledger_equals_predicted: measured.as_ref().map(|r| r.ledger == predicted),
            rss_growth_bytes: measured.as_ref().and_then(Measured::growth),
            predicted,
            measured,
        });
    }
    let table = Table { model: named, batch: m.batch, length, threads, rows, left_out };
    match (m.json, m.csv) {
        (true, _) => say(&json_line(&table))?,
        (_, true) => say(csv(&table)?.trim_end())?,
        _ => show(&table)?,
    }
    let wrong: Vec<String> = table
        .rows
        .iter()
        .filter(|r| r.ledger_equals_predicted == Some(false))
        .map(|r| format!("{} with {}", r.method, r.activations))
        .collect();
    if !wrong.is_empty() {
        bail!("the ledger does not hold the predicted bytes: {}", wrong.join(", "));
    }
    Ok(())
}
fn pairs(m: &Memory) -> Vec<(AdapterChoice, ActivationsChoice)> {
    let Methods(methods) = m.methods.clone().unwrap_or_default();
    methods.iter().flat_map(|method| m.activations.iter().map(|a| (method.clone(), *a))).collect()
}

/// Takes the steps in a process of its own, so that nothing else is in its memory.
fn measure(
    m: &Memory,
    length: usize,
    method: &AdapterChoice,
    activations: ActivationsChoice,
    threads: usize,
) -> Result<Measured> {
    let what = format!("{} with {}", method_name(method), activations.name());
    let mut c = Command::new(std::env::current_exe().context("the program cannot find itself")?);
    c.args(["memory", "--here", "--model"]).arg(&m.model);
    c.args(["--methods", method_name(method), "--activations", activations.name()]);
    for (flag, value) in [("--batch", m.batch), ("--length", length), ("--threads", threads)] {
        c.args([flag, &value.to_string()]);
    }
    if let Some(dtype) = &m.stored.backbone_dtype {
        c.args(["--backbone-dtype", dtype.name()]);
    }
    if let Some(compute) = &m.stored.backbone_compute {
        c.args(["--backbone-compute", compute.name()]);
    }
    if let Some(task) = &m.task {
        c.args(["--task", task]);
    }
    if let Some(n) = m.max_target_length {
        c.args(["--max-target-length", &n.to_string()]);
    }
    if let Some(drop) = m.adapter_drop {
        c.args(["--adapter-drop", &drop.to_string()]);
    }
    if let Some(width) = m.bottleneck {
        c.args(["--bottleneck", &width.to_string()]);
    }
    if let Some(factor) = &m.reduction_factor {
        c.args(["--reduction-factor", &factor.to_string()]);
    }
    let out = c.stdin(Stdio::null()).stderr(Stdio::piped()).output().with_context(|| what.clone())?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{what}: {}", said.trim().strip_prefix("error: ").unwrap_or(said.trim()));
    }
    serde_json::from_slice(&out.stdout).with_context(|| format!("{what}: what it measured"))
}

const CLASSES: [&str; 6] = ["backbone", "adapter", "gradient", "optimiser", "saved", "scratch"];

fn csv(t: &Table<'_>) -> Result<String> {
    let mut w = csv::Writer::from_writer(vec![]);
    let head = ["method", "activations", "part"].into_iter().chain(CLASSES);
    w.write_record(head.chain(["at_once", "ledger", "rss_growth"]))?;
    for r in &t.rows {
        let layers = r.predicted.layers.iter().enumerate().map(|(l, b)| (l.to_string(), b));
        let parts = layers.chain([("rest".into(), &r.predicted.rest), ("all".into(), &r.predicted.highest)]);
        for (part, bytes) in parts {
            let mut record = vec![r.method.clone(), r.activations.clone(), part.clone()];
            record.extend(bytes.by_class().map(|(_, b)| b.to_string()));
            let total = (part == "all").then_some(r.predicted.total as u64);
            let ledger = r.measured.as_ref().map(|m| m.ledger.total as u64).and(total);
            let growth = total.and(r.rss_growth_bytes);
            record.extend([total, ledger, growth].map(|b| b.map(|b| b.to_string()).unwrap_or_default()));
            w.write_record(record)?;
        }
    }
    Ok(String::from_utf8(w.into_inner().map_err(|e| e.into_error())?)?)
}

fn mib(bytes: usize) -> String {
    format!("{:.2}", bytes as f64 / 1_048_576.0)
}
fn cells(bytes: &Bytes) -> String {
    bytes.by_class().map(|(_, b)| format!("{:>10}", mib(b))).concat()
}
/// A line without blanks at its end.
fn line(text: &str) -> Result<()> {
    say(text.trim_end())
}

fn show(t: &Table<'_>) -> Result<()> {
    let (path, n) = (t.model.display(), t.threads);
    line(&format!("{path}: steps on {} x {} tokens, {n} threads; MiB", t.batch, t.length))?;
    line("")?;
    let heads = CLASSES.map(|c| format!("{c:>10}")).concat();
    let measured = t.rows.iter().any(|r| r.measured.is_some());
    let more = if measured { "    ledger  RSS growth" } else { "" };
    line(&format!("{:<16}{:<10}{heads}{:>10}{more}", "predicted", "", "at once"))?;
    for r in &t.rows {
        let mut text = format!("{:<16}{:<10}{}", r.method, r.activations, cells(&r.predicted.highest));
        text += &format!("{:>10}", mib(r.predicted.total));
        if let Some(m) = &r.measured {
            text += &format!("{:>10}", mib(m.ledger.total));
            text += &match r.rss_growth_bytes {
                Some(b) => {
                    let off = 100.0 * (b as f64 / m.ledger.total.max(1) as f64 - 1.0);
                    format!("{:>12}  {off:+.1} %", mib(b as usize))
                }
                None => format!("{:>12}", "unknown"),
            };
        }
        line(&text)?;
    }
    line("")?;
    line(
        "Each class at its highest; they are not at the same moment, so the most held at once is less than their sum.",
    )?;
    if measured {
        let equal = t.rows.iter().all(|r| r.ledger_equals_predicted == Some(true));
        let said = if equal { "Every byte was predicted." } else { "NOT every byte was predicted." };
        line(&format!(
            "{said} The growth of the process holds the program's own memory too, without its code."
        ))?;
    }
    for LeftOut { method, why } in &t.left_out {
        line(&format!("{method} is left out: {why}"))?;
    }
    for r in &t.rows {
        line("")?;
        line(&format!("{:<26}{heads}", format!("{}, {}", r.method, r.activations)))?;
        let mut from = 0;
        for run in r.predicted.layers.chunk_by(|a, b| a == b) {
            let last = from + run.len() - 1;
            let title = match run.len() {
                1 => format!("layer {from}"),
                _ => format!("layers {from}-{last}, each"),
            };
            line(&format!("  {title:<24}{}", cells(&run[0])))?;
            from = last + 1;
        }
        line(&format!("  {:<24}{}", "rest", cells(&r.predicted.rest)))?;
    }
    Ok(())
}
