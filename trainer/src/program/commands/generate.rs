//! `engraft generate`.
use super::{as_recorded, hold};
use crate::program::{
    args::{Generate, skipped},
    options::{Options, Settings},
    print::{note_unused, say, warn_of_strangers},
    setup::{found_files, open, open_backbone, saved, tokenizer},
};
use anyhow::{Context, Result, bail};
use engraft::{
    Error,
    data::Columns,
    generation::{self, Generated, Said, can_generate, generate},
    learner::{Backbone, Learner},
    reports::report::json_line,
    tasks::{Purpose, TaskType, Told, one_line},
    text::tokenizer::Tokenizer,
};
use engraft_models::Kind;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Write;

/// The file of `--ids`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    input_ids: Vec<Vec<u32>>,
}

/// What is to be continued, or read by an encoder.
struct Prompts {
    ids: Vec<Vec<u32>>,
    /// What is said goes on from them, and they are printed in front of it.
    go_on: bool,
    /// None where token ids are given.
    texts: Option<(Vec<String>, Tokenizer)>,
}

pub fn run(g: &Generate) -> Result<()> {
    let directory = g.adapter.as_deref();
    let _held = hold(directory)?;
    let given = Options {
        model: Some(g.model.clone()),
        compat: g.compat,
        text_column: g.text_column.clone(),
        source_prefix: g.source_prefix.clone(),
        ..g.stored.options()
    };
    let s = as_recorded(given, directory, g.run.quiet)?;
    let backbone = open_backbone(&s, &open(g.run.device, g.run.threads)?)?;
    let settings = g.how.over(generation::Settings::read(backbone.directory())?)?;
    if g.stream && settings.num_beams > 1 {
        bail!("--stream prints tokens as they come, and in a beam search none is final before the end");
    }
    if !g.run.quiet {
        note_unused(&backbone);
    }
    can_generate(&backbone)?;
    check_source(g, &backbone)?;
    directory.map_or(Ok(()), |d| warn_of_strangers(&backbone, d, g.run.quiet))?;
    let kind = TaskType::of_head(None, backbone.model().info())?;
    let prompts = prompts(g, &s, kind, &backbone)?;
    let (mut learner, _) = saved(backbone, directory, Some(kind), &s.told())?;
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

/// Refuses what is meant for an encoder-decoder where there is another model.
fn check_source(g: &Generate, backbone: &Backbone) -> Result<()> {
    let given = [
        ("source-prefix", g.source_prefix.clone()),
        ("decoder-start-token-id", g.how.decoder_start_token_id.map(|id| id.to_string())),
    ];
    let given = given.into_iter().find_map(|(option, value)| Some((option, value?)));
    match given.filter(|_| goes_on(backbone)) {
        None => Ok(()),
        Some((option, value)) => {
            let directory = backbone.directory().display();
            let why = format!("{directory} is no encoder-decoder: what it says begins with the prompt");
            Err(Error::Option { option, value, why }.into())
        }
    }
}
/// Whether what a model says goes on from the prompt.
fn goes_on(backbone: &Backbone) -> bool {
    !matches!(backbone.model().info().kind, Kind::EncoderDecoder { .. })
}

fn prompts(g: &Generate, s: &Settings, kind: &TaskType, backbone: &Backbone) -> Result<Prompts> {
    let go_on = goes_on(backbone);
    if let Some(file) = &g.ids {
        let shown = || file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", shown()))?;
        let Input { input_ids } = serde_json::from_str(&text).with_context(shown)?;
        if input_ids.is_empty() {
            bail!("{}: `input_ids` is empty", shown());
        }
        return Ok(Prompts { ids: input_ids, go_on, texts: None });
    }
    let texts = match g.input.is_empty() {
        true => g.prompt.clone(),
        false => {
            let columns = Columns { pair: None, label: None, ..s.columns() };
            let data =
                found_files((kind, &Told::default()), &g.input, &columns, Purpose::Predict, g.run.quiet)?
                    .read()?;
            data.records.iter().map(|r| r.text().into_owned()).collect()
        }
    };
    // longer ones are refused, not cut
    const LONGEST: usize = 1 << 20;
    let tokenizer = tokenizer(backbone, backbone.model().info().positions.unwrap_or(LONGEST), s)?;
    let (mut ids, prefix) = (vec![], s.source_prefix.as_deref().unwrap_or_default());
    for (i, text) in texts.iter().enumerate() {
        let tokens = tokenizer.encode(&format!("{prefix}{text}"), None)?;
        if tokens.is_cut {
            bail!("prompt {i} is longer than the {} tokens that the model takes", tokenizer.max_length());
        }
        ids.push(tokens.ids);
    }
    Ok(Prompts { ids, go_on, texts: Some((texts, tokenizer)) })
}

/// All of it at the end.
fn print(g: &Generate, learner: &Learner, prompts: &Prompts, settings: &generation::Settings) -> Result<()> {
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
                Some((texts, t)) => {
                    let before = if prompts.go_on { &*texts[i] } else { "" };
                    say(&one_line(&format!("{before}{}", t.decode(&sequence.ids)?)))?;
                }
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
fn stream(learner: &Learner, prompts: &Prompts, settings: &generation::Settings) -> Result<()> {
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
        if let Some((texts, _)) = prompts.texts.as_ref().filter(|_| prompts.go_on) {
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
