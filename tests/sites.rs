//! A model calls hooks exactly at the places that it lists: what stands between the sites is left
//! to others to trust (the cache of the frozen prefix, adapters that span several sites).
mod support;
use engraft_engine::*;
use engraft_models::{Holding, Rows, Tokens};
use std::sync::Mutex;

/// The model's own operations, and a note of every call.
#[derive(Default)]
struct Notes(Mutex<Vec<(Site, &'static str, Vec<usize>)>>);
impl Notes {
    fn add(&self, s: Site, kind: &'static str, dims: &[usize]) {
        self.0.lock().unwrap().push((s, kind, dims.to_vec()));
    }
}
impl Hooks for Notes {
    fn stream<'m>(&'m self, _: &mut Cx<'m>, s: Site, x: Act) -> Result<Act> {
        self.add(s, "stream", &[x.cols()]);
        Ok(x)
    }
    fn linear<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: &Act, w: LinearRef<'m>) -> Result<Act> {
        let (input, output) = w.dims();
        self.add(s, "linear", &[input, output, usize::from(w.in_out)]);
        cx.matmul(x, w)
    }
    fn prefix<'m>(&'m self, _: &mut Cx<'m>, s: Site, _: &Act) -> Result<Option<Prefix>> {
        self.add(s, "prefix", &[]); // keys may be narrower than x
        Ok(None)
    }
    fn norm<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: &Act, n: NormRef<'m>) -> Result<Act> {
        self.add(s, "norm", &[x.cols()]);
        cx.normalise(x, n)
    }
    fn close<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        s: Site,
        h: Pending,
        r: &Act,
        norm: Option<NormRef<'m>>,
    ) -> Result<Act> {
        self.add(s, "close", &[r.cols()]);
        cx.drop_add_norm(h, r, norm)
    }
}
/// What a call at a site looks like.
fn listed(i: &SiteInfo) -> (Site, &'static str, Vec<usize>) {
    let (kind, dims) = match i.kind {
        SiteKind::Stream { channels } => ("stream", vec![channels]),
        SiteKind::Linear { input, output, in_out, .. } => {
            ("linear", vec![input, output, usize::from(in_out)])
        }
        SiteKind::Prefix { .. } => ("prefix", vec![]),
        SiteKind::Norm { channels } => ("norm", vec![channels]),
        SiteKind::Close { channels } => ("close", vec![channels]),
    };
    (i.site, kind, dims)
}

#[test]
fn hooks_are_called_at_the_listed_sites_and_nowhere_else() {
    let device = support::cpu();
    let tokens = Tokens::new(&[vec![1, 2, 3], vec![4], vec![5, 6]]);
    let these = Rows::These([vec![0, 2], vec![0], vec![]].into());
    for family in support::families::all() {
        let directory = support::fixture(&format!("{family}/model"));
        let model = engraft_models::load_frozen(&directory, &device, Holding::default()).unwrap().model;
        let tokens = support::of_kind(&*model, tokens.clone());
        let mut sites: Vec<_> = model.sites().iter().map(listed).collect();
        sites.sort();
        assert!(sites.windows(2).all(|w| w[0].0 != w[1].0), "{family}: a site is listed twice");
        for rows in [Rows::All, Rows::First, Rows::Last, these.clone()] {
            let notes = Notes::default();
            let mut cx = Cx::new(&device, &notes, Pass::infer());
            let hidden = model.forward(&mut cx, &tokens, &rows).unwrap();
            if model.to_vocabulary(&mut cx, &hidden).unwrap().is_none() {
                let info = model.info();
                let embedded = cx.take_columns(&hidden, 0..info.embedding).unwrap();
                model.to_embeddings(&mut cx, &embedded).unwrap();
            }
            drop(cx);
            let mut calls = notes.0.into_inner().unwrap();
            calls.sort();
            assert_eq!(calls, sites, "{family}, {rows:?}");
        }
    }
}

#[test]
fn chosen_rows_are_those_of_the_whole() {
    let device = support::cpu();
    let tokens = Tokens::new(&[vec![1, 2, 3, 9, 8], vec![4], vec![5, 6]]);
    let chosen = [vec![0, 2, 3], vec![0], vec![]];
    for family in support::families::all() {
        let directory = support::fixture(&format!("{family}/model"));
        let model = engraft_models::load_frozen(&directory, &device, Holding::default()).unwrap().model;
        let tokens = support::of_kind(&*model, tokens.clone());
        let hidden = |rows: &Rows| {
            let mut cx = Cx::new(&device, &Plain, Pass::infer());
            let y = model.forward(&mut cx, &tokens, rows).unwrap();
            (y.read().unwrap(), y.seqs().iter().map(|s| s.len).collect::<Vec<_>>())
        };
        let c = model.info().channels;
        let (all, _) = hidden(&Rows::All);
        let pick = |rows: &[usize]| rows.iter().flat_map(|r| all[r * c..][..c].to_vec()).collect::<Vec<_>>();
        for (rows, places, lengths) in [
            (Rows::First, vec![0, 5, 6], vec![1, 1, 1]),
            (Rows::Last, vec![4, 5, 7], vec![1, 1, 1]),
            (Rows::These(chosen.clone().into()), vec![0, 2, 3, 5], vec![3, 1, 0]),
        ] {
            let (got, lens) = hidden(&rows);
            assert_eq!(lens, lengths, "{family}, {rows:?}");
            assert!(support::relative(&got, &pick(&places)) < 1e-6, "{family}, {rows:?}");
        }
    }
}
