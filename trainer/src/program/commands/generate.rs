//! `engraft generate`.
use super::{as_recorded, hold};
use crate::program::{
    args::{Generate, skipped},
    options::Options,
    print::{note_unused, say, warn_of_strangers},
    setup::{files, open, open_backbone, saved, task, tokenizer},
};
use anyhow::{Context, Result, bail};
use engraft::{
    data::expand,
    generation::{Generated, Said, Settings, can_generate, generate},
    learner::{Backbone, Learner},
    reports::report::json_line,
    tasks::{Purpose, one_line},
    text::tokenizer::Tokenizer,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Write;

/// The file of `--ids`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    input_ids: Vec<Vec<u32>>,
}

/// What is to be continued.
struct Prompts {
    ids: Vec<Vec<u32>>,
    /// None where token ids are given.
    texts: Option<(Vec<String>, Tokenizer)>,
}

pub fn run(g: &Generate) -> Result<()> {
    let directory = g.adapter.as_deref();
    let _held = hold(directory)?;
    let given = Options {
        model: Some(g.model.clone()),
        task: Some("causal-lm".into()),
        compat: g.compat,
        text_column: g.text_column.clone(),
        ..g.stored.options()
    };
    let s = as_recorded(given, directory, g.run.quiet)?;
    let backbone = open_backbone(&s, &open(g.run.device, g.run.threads)?)?;
    let settings = g.how.over(Settings::read(backbone.directory())?)?;
    if g.stream && settings.num_beams > 1 {
        bail!("--stream prints tokens as they come, and in a beam search none is final before the end");
    }
    if !g.run.quiet {
        note_unused(&backbone);
    }
    can_generate(&backbone)?;
    directory.map_or(Ok(()), |d| warn_of_strangers(&backbone, d, g.run.quiet))?;
    let prompts = prompts(g, &backbone)?;
    let (mut learner, _) = saved(backbone, directory, task(s.task.as_ref())?)?;
    learner.set_compat(s.compat.into());
    if let Some(setup) = &g.setup {
        learner.set_setup(setup.0.clone())?;
    }
    let layers = learner.backbone().model().info().layers;
    learner.skip_layers(skipped(g.skip_layers.as_ref(), layers)?)?;
    match g.stream {
        true => stream(&learner, &prompts, &settings),
        false => print(g, &learner, &prompts, &settings),
    }
}

fn prompts(g: &Generate, backbone: &Backbone) -> Result<Prompts> {
    if let Some(file) = &g.ids {
        let shown = || file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", shown()))?;
        let Input { input_ids } = serde_json::from_str(&text).with_context(shown)?;
        if input_ids.is_empty() {
            bail!("{}: `input_ids` is empty", shown());
        }
        return Ok(Prompts { ids: input_ids, texts: None });
    }
    let texts = match g.input.is_empty() {
        true => g.prompt.clone(),
        false => {
            let kind = task(Some(&"causal-lm".to_string()))?.context("no task of this name")?;
            let columns = Options { text_column: g.text_column.clone(), ..Options::default() };
            let columns = columns.settle()?.columns();
            let data = files(kind, &expand(&g.input)?, &columns, Purpose::Predict)?.read()?;
            data.records.iter().map(|r| r.text().into_owned()).collect()
        }
    };
    // longer ones are refused, not cut
    const LONGEST: usize = 1 << 20;
    let tokenizer = tokenizer(backbone, backbone.model().info().positions.unwrap_or(LONGEST))?;
    let mut ids = vec![];
    for (i, text) in texts.iter().enumerate() {
        let tokens = tokenizer.encode(text, None)?;
        if tokens.is_cut {
            bail!("prompt {i} is longer than the {} tokens that the model takes", tokenizer.max_length());
        }
        ids.push(tokens.ids);
    }
    Ok(Prompts { ids, texts: Some((texts, tokenizer)) })
}

/// All of it at the end.
fn print(g: &Generate, learner: &Learner, prompts: &Prompts, settings: &Settings) -> Result<()> {
    let (mut all, began) = (vec![], std::time::Instant::now());
    for batch in prompts.ids.chunks(g.batch_size) {
        let more = generate(learner, batch, settings, &mut |_| Ok(()));
        all.extend(more.map_err(|e| anyhow::Error::from(e).context(within(all.len())))?);
    }
    let seconds = began.elapsed().as_secs_f64();
    if g.run.json {
        let mut results = vec![];
        for (i, of) in all.iter().enumerate() {
            results.push(result(prompts, i, of)?);
        }
        let tokens: usize = all.iter().flatten().map(|g| g.ids.len()).sum();
        let object = json!({"generated": results, "tokens": tokens, "seconds": seconds});
        return say(&json_line(&object));
    }
    for (i, of) in all.iter().enumerate() {
        for sequence in of {
            match &prompts.texts {
                Some((texts, t)) => say(&one_line(&format!("{}{}", texts[i], t.decode(&sequence.ids)?)))?,
                None => say(&serde_json::to_string(&sequence.ids)?)?,
            }
        }
    }
    Ok(())
}
/// Which prompts an error of a batch counts from.
fn within(first: usize) -> String {
    if first == 0 { "generate".into() } else { format!("of the prompts from number {first} on") }
}
fn result(prompts: &Prompts, i: usize, of: &[Generated]) -> Result<Value> {
    let mut sequences = vec![];
    for g in of {
        let mut one = json!({"ids": g.ids});
        if let Some(score) = g.score {
            one["score"] = json!(score);
        }
        if let Some((_, tokenizer)) = &prompts.texts {
            one["text"] = json!(tokenizer.decode(&g.ids)?);
        }
        sequences.push(one);
    }
    let mut all = json!({"input_ids": prompts.ids[i], "sequences": sequences});
    if let Some((texts, _)) = &prompts.texts {
        all["prompt"] = json!(texts[i]);
    }
    Ok(all)
}

/// Tokens as they come, one sequence after the other.
fn stream(learner: &Learner, prompts: &Prompts, settings: &Settings) -> Result<()> {
    if settings.num_return_sequences > 1 {
        bail!("--stream prints one sequence for each prompt, not {}", settings.num_return_sequences);
    }
    for (i, ids) in prompts.ids.iter().enumerate() {
        let mut out = std::io::stdout().lock();
        let mut said: Vec<u32> = vec![];
        let mut shown = 0;
        let mut write = |text: &str| -> engraft::Result<()> {
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Err(source) => Err(engraft_engine::Error::Write { path: "stdout".into(), source }.into()),
                Ok(()) => Ok(()),
            }
        };
        if let Some((texts, _)) = &prompts.texts {
            write(&texts[i])?;
        }
        let mut hear = |Said { id, .. }: Said| {
            let Some((_, tokenizer)) = &prompts.texts else { return write(&format!("{id} ")) };
            said.push(id);
            let text = tokenizer.decode(&said)?;
            // a character may take several tokens, and is shown when it is whole
            if text.ends_with(char::REPLACEMENT_CHARACTER) {
                return Ok(());
            }
            let new = text.get(shown..).unwrap_or_default();
            shown = text.len();
            write(new)
        };
        let done = generate(learner, std::slice::from_ref(ids), settings, &mut hear).map(drop);
        match done.and_then(|()| write("\n")) {
            // a reader that went away is no error
            Err(engraft::Error::Engine(engraft_engine::Error::Write { source, .. }))
                if source.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                return Ok(());
            }
            done => done?,
        }
    }
    Ok(())
}
