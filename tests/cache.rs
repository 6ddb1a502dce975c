//! Keys and values that are remembered: sequences that part and go on, are forgotten and come back
//! in another order get the bits of the whole pass.
mod support;
use engraft_engine::{
    Act, Class, Cx, Device, Hooks, KvCache, LinearRef, Part, Pass, Plain, Point, Result, Rows, Site,
    kernels::Storage, pack,
};
use engraft_models::{Holding, Model, Target, Tokens, load_frozen};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{cpu, fixture};

const CHANNELS: usize = 32;

fn gpt2(device: &Device, storage: Option<Storage>) -> Box<dyn Model> {
    let how = Holding { storage, ..Holding::default() };
    load_frozen(&fixture("gpt2/model"), device, how).unwrap().model
}
/// The state of the last token of each sequence.
fn states(
    device: &Device,
    model: &dyn Model,
    texts: &[Vec<u32>],
    cache: &mut Option<KvCache>,
) -> Vec<Vec<f32>> {
    let mut cx = Cx::new(device, &Plain, Pass::infer());
    if let Some(cache) = cache.take() {
        cx = cx.with_cache(cache).unwrap();
    }
    let y = model.forward(&mut cx, &Tokens::new(texts), &Rows::Last).unwrap().read().unwrap();
    *cache = cx.into_cache();
    y.chunks(CHANNELS).map(<[f32]>::to_vec).collect()
}

#[test]
fn sequences_that_part_get_the_bits_of_the_whole() {
    let device = cpu();
    for storage in [None, Some(Storage::Int8)] {
        let model = gpt2(&device, storage);
        // longer than a block, so that what is shared is not copied, and what is not full is
        let mut texts: Vec<Vec<u32>> = vec![(1..19).collect(), vec![5, 3], (30..46).collect()];
        let mut cache = Some(KvCache::new(6, 24));
        states(&device, &*model, &texts, &mut cache);
        let steps: [(&[usize], &[u32]); 4] = [
            (&[0, 0, 1, 2, 0, 2], &[4, 9, 9, 8, 7, 1]),
            (&[1, 1, 3, 4, 2], &[6, 2, 3, 3, 5]),
            (&[4, 0, 2], &[1, 1, 96]),
            (&[2, 2, 0, 1, 1, 2], &[11, 12, 13, 14, 15, 16]),
        ];
        for (order, next) in steps {
            let mut held = cache.take().unwrap();
            held.select(&device, order).unwrap();
            texts = order.iter().zip(next).map(|(i, t)| [texts[*i].as_slice(), &[*t]].concat()).collect();
            assert!(texts.iter().enumerate().all(|(i, t)| held.tokens(i) + 1 == t.len()));
            cache = Some(held);
            let new: Vec<Vec<u32>> = next.iter().map(|t| vec![*t]).collect();
            let got = states(&device, &*model, &new, &mut cache);
            for (got, text) in got.iter().zip(&texts) {
                let whole = states(&device, &*model, std::slice::from_ref(text), &mut None);
                assert_eq!(*got, whole[0], "{text:?}");
            }
        }
    }
}

#[test]
fn what_a_cache_cannot_hold_is_an_error() {
    let device = cpu();
    let model = gpt2(&device, None);
    let mut cache = KvCache::new(2, 8);
    assert!(cache.select(&device, &[0, 0, 0]).unwrap_err().to_string().contains("room for 2 sequences"));
    let pass = |cache: KvCache, texts: &[Vec<u32>]| {
        let mut cx = Cx::new(&device, &Plain, Pass::infer()).with_cache(cache).unwrap();
        let y = model.forward(&mut cx, &Tokens::new(texts), &Rows::All).map(drop);
        (y.map_err(|e| e.to_string()), cx.into_cache().unwrap())
    };
    let (y, _) = pass(KvCache::new(2, 8), &[vec![1], vec![2], vec![3]]);
    assert!(y.unwrap_err().contains("not for item 2"));
    let (y, mut cache) = pass(cache, &[vec![1; 8], vec![2]]);
    y.unwrap();
    cache.forget(0);
    assert_eq!((cache.tokens(0), cache.tokens(1)), (0, 1));
    let (y, cache) = pass(cache, &[vec![1; 8], vec![2; 7]]);
    y.unwrap();
    let (y, _) = pass(cache, &[vec![1]]);
    assert!(y.unwrap_err().contains("room for 8 tokens of item 0, not for 9"));
}

#[test]
fn the_keys_of_an_encoders_output_are_made_once() {
    let device = cpu();
    let made = std::cell::Cell::new(0);
    let pass = |cache: KvCache| {
        let mut cx = Cx::new(&device, &Plain, Pass::infer()).with_cache(cache).unwrap();
        let x = cx.once(3, |_| {
            made.set(made.get() + 1);
            let rows = |by: f32| device.upload(Class::Scratch, &[1.0, 2.0, 3.0].map(|x| by * x)).unwrap();
            let act = |by| Act::new(rows(by), 1, pack([2, 1])).unwrap();
            Ok([act(1.0), act(10.0)])
        });
        (x.unwrap(), cx.into_cache().unwrap())
    };
    let (first, mut cache) = pass(KvCache::new(4, 8));
    cache.select(&device, &[1, 0, 1]).unwrap();
    let (again, cache) = pass(cache);
    assert_eq!(made.get(), 1);
    assert_eq!(again[1].read().unwrap(), [10.0, 20.0, 30.0]);
    let places = |x: &Act| x.seqs().iter().map(|s| (s.item, s.start, s.len)).collect::<Vec<_>>();
    assert_eq!(places(&first[0]), [(0, 0, 2), (1, 2, 1)]);
    assert_eq!(places(&again[0]), [(0, 2, 1), (1, 0, 2), (2, 2, 1)]);
    drop(cache);
    pass(KvCache::new(4, 8));
    assert_eq!(made.get(), 2);
}

/// The plain model; counts products with what an encoder has made.
#[derive(Default)]
struct Counting(AtomicUsize);
impl Hooks for Counting {
    fn linear<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: &Act, w: LinearRef<'m>) -> Result<Act> {
        let of_memory = s.part == Part::Cross && [Point::K, Point::V].contains(&s.point);
        self.0.fetch_add(usize::from(of_memory), Ordering::Relaxed);
        cx.matmul(x, w)
    }
}

#[test]
fn sequences_of_one_input_share_what_an_encoder_makes_of_it() {
    let (device, counting) = (cpu(), Counting::default());
    let model = load_frozen(&fixture("t5/model"), &device, Holding::default()).unwrap().model;
    let (sources, start): ([&[u32]; 2], [&[u32]; 2]) = ([&[7, 3, 9, 1], &[4, 1]], [&[0], &[0]]);
    let mut cx = Cx::new(&device, &counting, Pass::infer());
    let x = model.embed(&mut cx, &Tokens::new(&sources).with_target(&start)).unwrap();
    let x = model.run(&mut cx, 0..model.info().input_layers(), x, &Rows::All).unwrap();
    let memory = model.memory(&mut cx, x).unwrap();
    let mut cache = KvCache::new(4, 8);
    // which sequence each goes on from, which input it reads, its next token
    let mut texts: Vec<(usize, Vec<u32>)> = vec![(0, vec![]), (1, vec![])];
    let steps: [(&[usize], &[u32]); 4] =
        [(&[0, 1], &[0, 0]), (&[1, 0, 1, 0], &[5, 6, 7, 5]), (&[3, 2, 2], &[8, 8, 9]), (&[1], &[3])];
    for (order, next) in steps {
        cache.select(&device, order).unwrap();
        texts = order.iter().zip(next).map(|(i, t)| (texts[*i].0, [&*texts[*i].1, &[*t]].concat())).collect();
        let new: Vec<Vec<u32>> = next.iter().map(|t| vec![*t]).collect();
        let mut cx = Cx::new(&device, &counting, Pass::infer()).with_cache(cache).unwrap();
        let y = model.decode(&mut cx, memory.clone(), &Target::new(&new), &Rows::Last).unwrap();
        let got = y.read().unwrap();
        cache = cx.into_cache().unwrap();
        for (got, (source, text)) in got.chunks(CHANNELS).zip(&texts) {
            let mut cx = Cx::new(&device, &Plain, Pass::infer());
            let tokens = Tokens::new(&[sources[*source]]).with_target(&[text]);
            let whole = model.forward(&mut cx, &tokens, &Rows::Last).unwrap().read().unwrap();
            assert_eq!(got, whole, "{source} {text:?}");
        }
    }
    let layers = model.info().layers - model.info().input_layers();
    assert_eq!(counting.0.load(Ordering::Relaxed), 2 * layers, "keys and values of each layer, once");
}
