//! Prompt tuning (Lester et al. 2021): trained rows in front of the embedded tokens of every
//! sequence.
//!
//! In AdapterHub they stand behind the embeddings, norm included, and the tokens keep their
//! positions. In PEFT they stand among the embeddings of words: they have positions and segments as
//! tokens have, and the tokens stand behind them. In both a classification reads the first row of
//! all, which is that of the prompt; labels of tokens skip it.
use super::{
    Config, Method, PeftMethod, overlaid,
    peft_prompt::{self, OfPeft},
    read, written,
};
use crate::{AtStream, Common, Error, Here, Module, Place, Result, View, grammar::Fields};
use engraft_engine::{
    self as engine, Act, Cx, Init, Param, Parameters, Role, Seq, Site, SiteInfo, SiteKind, Source, Tensor,
    checkpoint::TensorData,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["prompt_tuning"],
    architecture: Some("prompt_tuning"),
    preset: |_, fields| Ok(Box::new(overlaid(&PromptConfig::default(), fields)?)),
    read: |fields, _| {
        peft_prompt::not_ours(&fields)?;
        Ok(Box::new(read::<PromptConfig>(fields)?))
    },
    peft: Some(PeftMethod { name: PEFT, read: |fields| Ok(Box::new(of_peft(fields)?)) }),
};
const PEFT: &str = "PROMPT_TUNING";
/// What AdapterHub's checkpoints call it.
const COLLECTION: &str = "prompt_tuning.prompt_tunings";
const ROWS: (&str, &str) = (COLLECTION, "prompt_embedding.weight");

/// Where the rows stand (`combine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// In front of all tokens.
    Prefix,
    /// Behind the first token.
    PrefixAfterBos,
}
/// How new rows start (`prompt_init`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptStart {
    /// U(-½, ½).
    RandomUniform,
    /// The embeddings of a text: only in files.
    FromString,
}
/// Prompt tuning, as AdapterHub describes it, with PEFT's positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptConfig {
    /// Where the rows stand.
    pub combine: Combine,
    /// The library's seed for new weights; it says nothing about loaded ones.
    pub init_weights_seed: Option<u64>,
    /// How new rows start.
    pub prompt_init: PromptStart,
    /// The text that they start from; it says nothing about loaded ones.
    pub prompt_init_text: Option<String>,
    /// Rows.
    pub prompt_length: usize,
    /// The rows have positions and the tokens stand behind them, as in PEFT. AdapterHub has no such
    /// field.
    #[serde(skip_serializing)]
    pub has_positions: bool,
}
impl Default for PromptConfig {
    fn default() -> PromptConfig {
        PromptConfig {
            combine: Combine::Prefix,
            init_weights_seed: None,
            prompt_init: PromptStart::RandomUniform,
            prompt_init_text: None,
            prompt_length: 10,
            has_positions: false,
        }
    }
}
impl PromptConfig {
    /// Where in a model the rows are added.
    fn site(&self) -> Site {
        if self.has_positions { Site::WORDS } else { Site::EMBED }
    }
}
impl Config for PromptConfig {
    fn check(&self) -> Result<()> {
        let most = peft_prompt::LONGEST;
        match () {
            () if !(1..=most).contains(&self.prompt_length) => {
                Err(Error::Config(format!("`prompt_length` is {}, expected 1 to {most}", self.prompt_length)))
            }
            () if self.has_positions && self.combine != Combine::Prefix => {
                Err(Error::Config("`combine` is not `prefix`, which rows with positions need".into()))
            }
            () => Ok(()),
        }
    }
    fn common(&self, place: &Place<'_>, to: &mut Common, from: &mut Source<'_, '_>) -> Result<()> {
        let SiteKind::Stream { channels } = place.info.kind else { return Ok(()) };
        if matches!(from, Source::New(_)) && self.prompt_init != PromptStart::RandomUniform {
            return Err(Error::Config("`prompt_init` is not `random_uniform`, as new prompts start".into()));
        }
        if !self.has_positions && !place.base.sites.iter().any(|i| i.site == Site::EMBED_NORM) {
            return Err(Error::Config(
                "AdapterHub's prompts stand behind a norm of the embeddings, and this model has none: set \
                 `has_positions`, as PEFT's prompts are"
                    .into(),
            ));
        }
        let shape = [self.prompt_length, channels];
        match self.has_positions {
            true => {
                let how = (&shape[..], Role::WEIGHT, Init::Normal(1.0));
                to.get_named(place, ROWS, peft_prompt::TENSOR, how, from)
            }
            false => to.get(place, ROWS, (&shape, Role::WEIGHT, Init::Uniform(0.5)), from),
        }
    }
    fn build(&self, place: &Place<'_>, _: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let here = place.info.site == self.site();
        let prompt = Prompt { length: self.prompt_length, is_first: self.combine == Combine::Prefix };
        Ok(if here { vec![Box::new(prompt)] } else { vec![] })
    }
    fn adapterhub(&self) -> Result<Fields> {
        if self.has_positions {
            return Err(Error::Config(
                "AdapterHub's format has no prompts with positions; PEFT's has".into(),
            ));
        }
        let mut fields = written(self)?;
        fields.insert("architecture".into(), "prompt_tuning".into());
        Ok(fields)
    }
    fn peft(&self, sites: &[SiteInfo]) -> Result<Fields> {
        if !self.has_positions {
            return Err(Error::Config("PEFT's format has no prompts without positions".into()));
        }
        let layers = sites.iter().filter(|i| i.site == Site::layer(i.site.layer)).count();
        let mut fields = peft_prompt::fields(PEFT, self.prompt_length, layers, sites);
        fields.insert("prompt_tuning_init".into(), json!("RANDOM"));
        for name in ["prompt_tuning_init_text", "tokenizer_kwargs", "tokenizer_name_or_path"] {
            fields.insert(name.into(), Value::Null);
        }
        Ok(fields)
    }
    fn peft_tensors<'c>(&self, common: &'c Common) -> Result<Vec<(String, TensorData<'c>)>> {
        let Some(t) = common.tensor(ROWS) else { return Ok(vec![]) };
        Ok(vec![(peft_prompt::TENSOR.into(), TensorData::f32(&t.to_f32()?, t.shape()))])
    }
}
/// What PEFT's `adapter_config.json` says.
fn of_peft(fields: Fields) -> Result<OfPeft<PromptConfig>> {
    let also =
        ["prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_kwargs", "tokenizer_name_or_path"];
    let prompt_length = peft_prompt::length(&fields, &also)?;
    let config = PromptConfig { prompt_length, has_positions: true, ..PromptConfig::default() };
    Ok(OfPeft { fields, config })
}

/// Rows in front of those of each sequence.
#[derive(Debug)]
struct Prompt {
    length: usize,
    /// False if the first token counts as standing in front of them. To an encoder the order of
    /// rows is nothing.
    is_first: bool,
}
impl AtStream for Prompt {
    fn stream<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, x: Act) -> engine::Result<Act> {
        // a pass that remembers others has the prompt among what it remembers
        let rows = |cx: &Cx<'m>, s: &Seq| if cx.place(s.item) == 0 { self.length } else { 0 };
        let (mut index, mut seqs) = (vec![], vec![]);
        for s in x.seqs().iter() {
            let len = rows(cx, s);
            seqs.push(Seq { start: index.len(), len, item: s.item, route: s.route, ..Seq::default() });
            index.extend(0..len as u32);
        }
        let front = cx.embed(&[(here.common.weight(ROWS), &*index)], seqs.into())?;
        let y = cx.prepend(&front, &x)?;
        if self.is_first {
            return Ok(y);
        }
        let seqs = y.seqs().iter().map(|s| Seq { first: s.extra, ..s.clone() }).collect();
        y.repacked(seqs)
    }
}
impl Module for Prompt {
    fn view(&self) -> View<'_> {
        View::Stream(self)
    }
    fn collection(&self) -> &'static str {
        COLLECTION
    }
    fn each<'a>(&'a self, _: &mut dyn FnMut(String, &'a Tensor)) {}
    fn peft(&self) -> Result<Vec<(&'static str, TensorData<'_>)>> {
        Ok(vec![]) // what the configuration shares is all there is
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        self
    }
}
impl Parameters for Prompt {
    fn visit<'a>(&'a self, _: &mut dyn FnMut(&'a Param)) {}
    fn visit_mut<'a>(&'a mut self, _: &mut dyn FnMut(&'a mut Param)) {}
}
