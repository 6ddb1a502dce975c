//! How much each adapter of a fusion contributes in each layer: a table, and what a heat map is
//! drawn of.
use super::heat_map::{HeatMap, Row};
use engraft_adapters::SiteShares;
use engraft_engine::{Part, Site};
use serde::Serialize;

/// What was found on a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShareReport {
    /// Fusion by fusion.
    pub fusions: Vec<FusionReport>,
}
/// The adapters of one fusion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FusionReport {
    /// Its name.
    pub fusion: String,
    /// The names of its adapters, as far as they were mixed.
    pub adapters: Vec<String>,
    /// Tokens that were looked at.
    pub tokens: usize,
    /// Their mean share over all layers and places.
    pub mean: Vec<f64>,
    /// Place by place, in the order of the model.
    pub places: Vec<Place>,
}
/// What they contribute behind one sub-layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The layer, from 0.
    pub layer: usize,
    /// The sub-layer: `attention`, `cross-attention` or `feed-forward`.
    pub sublayer: &'static str,
    /// The mean share of each adapter over all tokens; none where an adapter does not stand.
    pub shares: Vec<Option<f64>>,
    /// The part of the tokens in which its share is the largest.
    pub largest: Vec<Option<f64>>,
}

fn sublayer(site: Site) -> &'static str {
    match site.part {
        Part::Attn => "attention",
        Part::Cross => "cross-attention",
        Part::Ffn => "feed-forward",
        Part::Embed | Part::Layer | Part::Memory | Part::Head => "layer",
    }
}

impl ShareReport {
    /// Of what was collected.
    pub fn new(found: &[SiteShares]) -> ShareReport {
        let fusions = found.chunk_by(|a, b| a.fusion == b.fusion).map(FusionReport::new).collect();
        ShareReport { fusions }
    }
    /// One map for each fusion: a row for each place, a column for each adapter.
    pub fn heat_maps(&self) -> Vec<HeatMap> {
        let map = |f: &FusionReport| HeatMap {
            title: f.fusion.clone(),
            columns: f.adapters.clone(),
            rows: f.places.iter().map(|p| Row { name: p.name(), values: p.shares.clone() }).collect(),
        };
        self.fusions.iter().map(map).collect()
    }
    /// Tables to be printed, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.fusions.iter().flat_map(FusionReport::lines).collect()
    }
}
impl FusionReport {
    fn new(found: &[SiteShares]) -> FusionReport {
        let mut adapters: Vec<String> = vec![];
        for share in found.iter().flat_map(|s| &s.adapters) {
            if !adapters.contains(&share.name) {
                adapters.push(share.name.clone());
            }
        }
        let place = |s: &SiteShares| {
            let of = |name: &String| s.adapters.iter().find(|a| a.name == *name);
            Place {
                layer: s.site.layer,
                sublayer: sublayer(s.site),
                shares: adapters.iter().map(|n| of(n).map(|a| a.mean)).collect(),
                largest: adapters.iter().map(|n| of(n).map(|a| a.largest)).collect(),
            }
        };
        let places: Vec<Place> = found.iter().map(place).collect();
        let mean = |i: usize| {
            let own: Vec<f64> = places.iter().filter_map(|p| p.shares[i]).collect();
            own.iter().sum::<f64>() / own.len().max(1) as f64
        };
        FusionReport {
            fusion: found.first().map(|s| s.fusion.clone()).unwrap_or_default(),
            tokens: found.first().map_or(0, |s| s.tokens),
            mean: (0..adapters.len()).map(mean).collect(),
            adapters,
            places,
        }
    }
    fn lines(&self) -> Vec<String> {
        let widths: Vec<usize> = self.adapters.iter().map(|a| a.chars().count().max(6) + 2).collect();
        let line = |first: &str, cells: Vec<String>| {
            let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            format!("{first:<24}{}", cells.collect::<String>())
        };
        let percent = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.1} %", 100.0 * x));
        let mut lines = vec![format!("{}: mean share of each adapter, {} tokens", self.fusion, self.tokens)];
        lines.push(line("", self.adapters.clone()));
        let row = |p: &Place| line(&p.name(), p.shares.iter().map(|x| percent(*x)).collect());
        lines.extend(self.places.iter().map(row));
        lines.push(line("all", self.mean.iter().map(|x| percent(Some(*x))).collect()));
        lines
    }
}
impl Place {
    fn name(&self) -> String {
        format!("layer {}, {}", self.layer, self.sublayer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engraft_adapters::AdapterShare;

    fn at(fusion: &str, site: Site, shares: &[(&str, f64)]) -> SiteShares {
        let one =
            |(name, mean): &(&str, f64)| AdapterShare { name: (*name).into(), mean: *mean, largest: 0.5 };
        SiteShares { fusion: fusion.into(), site, tokens: 7, adapters: shares.iter().map(one).collect() }
    }

    #[test]
    fn each_fusion_has_its_table_and_absent_adapters_a_gap() {
        let report = ShareReport::new(&[
            at("a,b", Site::after_attn(0), &[("a", 0.25), ("b", 0.75)]),
            at("a,b", Site::after_ffn(3), &[("b", 1.0)]),
            at("c", Site::after_ffn(0), &[("c", 1.0)]),
        ]);
        assert_eq!(
            report.lines(),
            [
                "a,b: mean share of each adapter, 7 tokens",
                "                               a       b",
                "layer 0, attention        25.0 %  75.0 %",
                "layer 3, feed-forward          - 100.0 %",
                "all                       25.0 %  87.5 %",
                "c: mean share of each adapter, 7 tokens",
                "                               c",
                "layer 0, feed-forward    100.0 %",
                "all                      100.0 %",
            ]
        );
        assert_eq!(report.heat_maps()[0].rows[1].values, [None, Some(1.0)]);
    }
}
