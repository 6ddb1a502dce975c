//! Which layer of a model a weight belongs to: told by the paths of the sites in each layer, so
//! that no family is known here.
use engraft_engine::{Part, SiteInfo};
use std::collections::BTreeMap;

/// Where the weights of a model stand.
#[derive(Clone, Debug)]
pub struct Places {
    /// The first word of all paths, which files of some models lack.
    root: String,
    /// What is common to the paths in each layer, without the root, between dots.
    layers: Vec<(usize, String)>,
}

impl Places {
    /// The places of a model with these sites.
    pub fn of(sites: &[SiteInfo]) -> Places {
        let mut common = BTreeMap::<usize, Vec<&str>>::new();
        for info in
            sites.iter().filter(|i| matches!(i.site.part, Part::Layer | Part::Attn | Part::Cross | Part::Ffn))
        {
            let words: Vec<&str> = info.path.split('.').collect();
            let layer = common.entry(info.site.layer).or_insert_with(|| words.clone());
            let same = layer.iter().zip(&words).take_while(|(a, b)| a == b).count();
            layer.truncate(same);
        }
        let root =
            common.values().find_map(|words| words.first()).map(ToString::to_string).unwrap_or_default();
        let between = |words: &[&str]| format!(".{}.", words.join("."));
        let layers = common.into_iter().map(|(l, words)| (l, between(words.get(1..).unwrap_or_default())));
        Places { root, layers: layers.filter(|(_, path)| path != "..").collect() }
    }
    /// The layer of a weight, by its name in the model's checkpoints or in those of an adapter.
    pub fn layer(&self, name: &str) -> Option<usize> {
        self.within(name).map(|(layer, _)| layer)
    }
    /// The same, and its name within the layer.
    pub fn within(&self, name: &str) -> Option<(usize, String)> {
        let name = format!(".{name}");
        let found = |(layer, path): &(usize, String)| {
            name.split_once(path.as_str()).map(|(_, rest)| (*layer, rest.to_string()))
        };
        self.layers.iter().find_map(found)
    }
    /// The name of a weight that is in no layer, without the first word that all of them have.
    pub fn short<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(&*self.root).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
    }
    /// The part of the model that a weight belongs to, to be shown: `layer 03`, or the module in
    /// front.
    pub fn part(&self, name: &str) -> String {
        match self.layer(name) {
            Some(layer) => format!("layer {layer:0>2}"),
            None => name.split('.').find(|word| *word != self.root).unwrap_or(name).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engraft_engine::{Site, SiteKind};

    #[test]
    fn weights_know_their_layer() {
        let close = |site, path: &str| SiteInfo::new(site, SiteKind::Close { channels: 1 }, path);
        let layer = |l: usize| {
            let path = format!("bert.encoder.layer.{l}");
            [
                close(Site::after_attn(l), &format!("{path}.attention.output")),
                close(Site::after_ffn(l), &format!("{path}.output")),
            ]
        };
        let places = Places::of(&[1, 11].map(layer).concat());
        for (name, l) in [
            ("bert.encoder.layer.11.output.adapters.a.adapter_up.weight", Some(11)),
            ("encoder.layer.1.attention.self.query.weight", Some(1)),
            ("base_model.model.bert.encoder.layer.1.attention.self.query.lora_A.weight", Some(1)),
            ("bert.embeddings.word_embeddings.weight", None),
            ("heads.layer.1.weight", None),
        ] {
            assert_eq!(places.layer(name), l, "{name}");
        }
        assert_eq!(places.part("bert.encoder.layer.1.output.dense.bias"), "layer 01");
        assert_eq!(places.part("bert.embeddings.LayerNorm.weight"), "embeddings");
        assert_eq!(places.part("heads.a.1.weight"), "heads");
    }
}
