//! Frozen products in 8-bit integers: close to those in f32, exact where they promise it, and held
//! as integers only.
mod support;
use engraft_engine::kernels::{DType, Usage, matmul::Matrix, storage::convert};
use engraft_engine::*;
use engraft_models::{Holding, Rows, load_frozen};
use support::{files::*, *};

const INTEGERS: [Compute; 2] = [Compute::Int8Forward, Compute::Int8];

/// A frozen layer of the given shape, its weight held for `compute`.
fn linear(d: &Device, (input, output): (usize, usize), in_out: bool, compute: Compute) -> Linear<Frozen> {
    let [rows, cols] = if in_out { [input, output] } else { [output, input] };
    let storage = if compute == Compute::F32 { Storage::F32 } else { Storage::Int8 };
    let values = d.upload(Class::Scratch, &noise(1, rows * cols)).unwrap();
    let (data, scales) = convert(Matrix::plain(&values, rows, cols), storage, Class::Backbone).unwrap();
    let w = Tensor::stored(data, scales, [rows, cols]).unwrap().computing(compute);
    let b = Tensor::new(d.upload(Class::Backbone, &noise(2, output)).unwrap(), &[output]).unwrap();
    Linear { w: Frozen::new(w), b: Some(Frozen::new(b)), in_out }
}
/// Activations.
fn act(d: &Device, rows: usize, cols: usize) -> Act {
    Act::new(d.upload(Class::Scratch, &noise(3, rows * cols)).unwrap(), cols, pack([rows])).unwrap()
}
/// (y, dx) of a layer, row by row: a trained factor of each channel of x is 1 and has the gradient
/// x dx.
fn through(d: &Device, layer: &Linear<Frozen>, rows: usize) -> (Vec<f32>, Vec<f32>) {
    let (input, output) = layer.get().dims();
    let mut dx = vec![];
    let x = noise(3, rows * input);
    let dy = noise(4, rows * output);
    let mut y = vec![];
    for i in 0..rows {
        let mut set = ParamSet::new();
        let ones = Tensor::new(d.upload(Class::Adapter, &vec![1f32; input]).unwrap(), &[input]).unwrap();
        let v = set.param("v", ones, Role::WEIGHT).unwrap();
        let mut cx = Cx::new(d, &Plain, Pass::gradients());
        let row = d.upload(Class::Scratch, &x[i * input..][..input]).unwrap();
        let row = Act::new(row, input, pack([1])).unwrap();
        let h = cx.mul_row(&row, v.get()).unwrap();
        let out = cx.matmul(&h, layer.get()).unwrap();
        y.extend(out.read().unwrap());
        let mut g = Gradients::new();
        let dy = d.upload(Class::Scratch, &dy[i * output..][..output]).unwrap();
        cx.backward(&out, dy, &mut g).unwrap();
        let dv = g.get(&v).unwrap().read::<f32>().unwrap();
        dx.extend(dv.iter().zip(&x[i * input..]).map(|(d, x)| d / x));
    }
    (y, dx)
}
/// |a - b| / |b|.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b))) / norm(&mut b.iter().map(|b| f64::from(*b)))
}

#[test]
fn a_layer_is_close_to_the_one_in_f32_and_its_gradient_is_that_of_the_rounded_weight() {
    let d = cpu();
    for (shape, in_out) in [((96, 70), false), ((70, 96), true), ((5, 3), false), ((3, 5), true)] {
        let exact = through(&d, &linear(&d, shape, in_out, Compute::F32), 9);
        for compute in INTEGERS {
            let layer = linear(&d, shape, in_out, compute);
            let rounded = Tensor::new(
                d.upload(Class::Backbone, &layer.w.tensor().to_f32().unwrap()).unwrap(),
                layer.w.tensor().shape(),
            );
            let rounded = Linear { w: Frozen::new(rounded.unwrap()), b: None, in_out };
            let (y, dx) = through(&d, &layer, 9);
            assert!(
                (1e-4..0.02).contains(&apart(&y, &exact.0)),
                "{compute:?} {shape:?}: {}",
                apart(&y, &exact.0)
            );
            assert!(apart(&dx, &exact.1) < 0.02, "{compute:?} {shape:?}: {}", apart(&dx, &exact.1));
            let of_rounded = apart(&dx, &through(&d, &rounded, 9).1);
            assert_eq!(
                of_rounded < 1e-6,
                compute == Compute::Int8Forward,
                "{compute:?} {shape:?}: {of_rounded}"
            );
        }
    }
}

fn scratch(d: &Device) -> usize {
    d.ledger().usage().live(Class::Scratch)
}

#[test]
fn what_several_layers_read_is_rounded_once() {
    let d = cpu();
    let layer = linear(&d, (40, 24), false, Compute::Int8);
    let x = act(&d, 10, 40);
    let mut cx = Cx::new(&d, &Plain, Pass::infer());
    let mut before = scratch(&d);
    let mut outputs = vec![];
    for more in [10 * 40 + 10 * 4, 0, 0] {
        outputs.push(cx.matmul(&x.clone(), layer.get()).unwrap());
        assert_eq!(scratch(&d), before + 10 * 24 * 4 + more);
        before = scratch(&d);
    }
    assert!(outputs[0].read().unwrap() == outputs[2].read().unwrap());
}

/// What rounds its output as it produces it.
fn rounding<'m>(
    cx: &mut Cx<'m>,
    which: usize,
    x: &Act,
    norm: &'m Norm<Frozen>,
    layer: &'m Linear<Frozen>,
) -> Act {
    match which {
        0 => cx.normalise(x, norm.get()),
        1 => cx.add_norm(x, x, Some(norm.get())),
        _ => cx.activate_for(x, Activation::Gelu, &layer.get()),
    }
    .unwrap()
}
/// A layer's output for a copy of x, which nothing has rounded before.
fn afresh<'m>(cx: &mut Cx<'m>, x: &Act, layer: &'m Linear<Frozen>) -> Vec<f32> {
    let copy = cx.device().upload(Class::Scratch, &x.read().unwrap()).unwrap();
    let copy = Act::new(copy, x.cols(), pack([x.rows()])).unwrap();
    cx.matmul(&copy, layer.get()).unwrap().read().unwrap()
}

#[test]
fn norms_and_activations_round_what_they_give_and_later_changes_are_seen() {
    let d = cpu();
    let (c, rows) = (40, 10);
    let [layer, plain] = [Compute::Int8, Compute::F32].map(|how| linear(&d, (c, 24), false, how));
    let weight = |seed| {
        let t = Tensor::new(d.upload(Class::Backbone, &noise(seed, c)).unwrap(), &[c]).unwrap();
        Frozen::new(t.computing(Compute::Int8))
    };
    let norm = Norm { w: weight(7), b: Some(weight(8)), eps: 1e-5, kind: NormKind::Layer };
    let mut cx = Cx::new(&d, &Plain, Pass::train(1, 1));
    let x = act(&d, rows, c);
    for which in 0..3 {
        let h = rounding(&mut cx, which, &x, &norm, &layer);
        let before = scratch(&d);
        let y = cx.matmul(&h, layer.get()).unwrap();
        assert_eq!(scratch(&d), before + rows * 24 * 4, "{which}: it was there already");
        assert!(y.read().unwrap() == afresh(&mut cx, &h, &layer), "{which}");
        let again = rounding(&mut cx, which, &x, &norm, &layer);
        for changed in [cx.dropout(h, 0.5, Site::head(), 0).unwrap(), cx.scale(again, 3.0).unwrap()] {
            let y = cx.matmul(&changed, layer.get()).unwrap().read().unwrap();
            assert!(y == afresh(&mut cx, &changed, &layer), "{which}");
        }
    }
    // nothing is rounded that nobody asked for
    let before = scratch(&d);
    let y = cx.activate_for(&x, Activation::Gelu, &plain.get()).unwrap();
    assert_eq!(scratch(&d), before + rows * c * 4);
    drop(y);
}

/// A case on a model that computes like this.
fn case(name: &str, device: &Device, compute: Compute) -> Case {
    let model = load_frozen(&fixture("model"), device, Holding { storage: None, compute }).unwrap().model;
    Case { model, ..Case::load(name, device) }
}
/// Loss and all gradients, one after the other.
fn gradients(case: &Case, pass: Pass) -> (f32, Vec<f32>) {
    let mut g = Gradients::new();
    let loss = case.pass(pass, &mut g).2;
    let all = case.gradients(&g).into_iter().flat_map(|(name, g)| g.unwrap_or_else(|| panic!("{name}")));
    (loss, all.collect())
}
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn gradients_of_a_model_point_where_those_in_f32_do() {
    for name in ["houlsby", "pfeiffer", "parallel", "scaled-parallel"] {
        let exact = gradients(&case(name, &cpu(), Compute::F32), Pass::gradients());
        for compute in INTEGERS {
            let (loss, g) = gradients(&case(name, &cpu(), compute), Pass::gradients());
            let c = cosine(&g, &exact.1);
            println!("{name} {compute:?}: loss {loss} for {}, cosine {c}", exact.0);
            assert!((0.99..0.999_999).contains(&c), "{name} {compute:?}: {c}");
            assert!((loss - exact.0).abs() < 0.02 * exact.0, "{name} {compute:?}: {loss}, {}", exact.0);
        }
    }
}

#[test]
fn threads_change_no_bit_and_the_null_device_predicts_the_bytes() {
    for compute in INTEGERS {
        let run = |device: &Device| -> (Vec<u32>, Usage) {
            let mut case = case("houlsby", device, compute);
            let ids: Vec<Vec<u32>> =
                (0..40).map(|s| (0..1 + (s * 7) % 24).map(|i| (s * 13 + i * 5) % 61).collect()).collect();
            (case.tokens, case.labels) =
                (engraft_models::Tokens::new(&ids), (0..40).map(|s| s % 2).collect());
            let (loss, g) = gradients(&case, Pass::train(3, 1));
            (g.into_iter().chain([loss]).map(f32::to_bits).collect(), device.ledger().usage())
        };
        let one = run(&Device::cpu(1).unwrap());
        for threads in [1, 2, 3] {
            let (bits, held) = run(&Device::cpu(threads).unwrap());
            assert!(bits == one.0, "{compute:?}: {threads} threads");
            assert_eq!(held, run(&Device::null(threads)).1, "{compute:?}: {threads} threads");
        }
    }
}

#[test]
fn frozen_products_save_nothing_more_and_are_held_as_integers_only() {
    let tape = |compute| {
        let case = case("houlsby", &cpu(), compute);
        let mut cx = Cx::new(&case.device, case.hooks(), Pass::gradients());
        let hidden = case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap();
        drop(hidden);
        cx.tape().collect::<Vec<_>>()
    };
    assert_eq!(tape(Compute::Int8), tape(Compute::F32));
    for stored in ["F32", "F16", "BF16"] {
        let model = ModelFiles::fixture();
        let dir = if stored == "F32" { model } else { model.map(|t| t.to(stored)) }.write();
        let d = cpu();
        let model =
            load_frozen(dir.path(), &d, Holding { storage: None, compute: Compute::Int8 }).unwrap().model;
        let plain = engraft_models::load_frozen(dir.path(), &cpu(), Holding::default()).unwrap().model;
        let mut bytes = 0;
        for ((name, t), (_, exact)) in model.named().into_iter().zip(plain.named()) {
            let product = t.shape().len() == 2 && !name.contains("embeddings");
            assert_eq!(t.buffer().dtype() == DType::I8, product, "{name}");
            bytes += t.bytes();
            let (got, want) = (t.to_f32().unwrap(), exact.to_f32().unwrap());
            assert!(apart(&got, &want) < 0.01 && (product || got == want), "{name}");
        }
        let usage = d.ledger().usage();
        assert_eq!((usage.live(Class::Backbone), usage.live_total()), (bytes, bytes), "{stored}");
    }
}

#[test]
fn layers_that_are_computed_again_round_again() {
    let policy = |keep| Activations::all(keep);
    for compute in INTEGERS {
        let run = |keep| {
            let case = case("houlsby", &cpu(), compute);
            let mut cx =
                Cx::new(&case.device, case.hooks(), Pass::train(3, 1)).with_activations(&policy(keep));
            let hidden = case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap();
            let kept = case.device.ledger().usage().live(Class::Scratch);
            let pooled = case.pooled(&mut cx, &hidden);
            let logits = case.head.forward(&mut cx, &pooled, 0.0, None).unwrap();
            let loss = cx.cross_entropy(&logits, &case.labels).unwrap().0;
            drop((hidden, pooled, logits));
            let mut g = Gradients::new();
            cx.backward(&loss, case.device.upload(Class::Scratch, &[1f32]).unwrap(), &mut g).unwrap();
            let all = case.gradients(&g).into_iter().flat_map(|(_, g)| g.unwrap()).map(f32::to_bits);
            (all.collect::<Vec<_>>(), kept)
        };
        let (stored, again) = (run(Keep::F32), run(Keep::Recompute));
        assert!(stored.0 == again.0, "{compute:?}");
        assert_eq!(stored.1, again.1, "nothing but the output is left, kept layers or not");
    }
}

#[test]
fn weights_in_nf4_are_refused() {
    let dir = ModelFiles::fixture().write();
    let nf4 = load_frozen(dir.path(), &cpu(), Holding { storage: Some(Storage::Nf4), compute: Compute::F32 })
        .unwrap()
        .model;
    let tensors: Vec<_> = nf4.named().iter().flat_map(|(n, t)| checkpoint::TensorData::of(n, t)).collect();
    checkpoint::save(&dir.path().join("model.safetensors"), &tensors).unwrap();
    let error = load_frozen(dir.path(), &cpu(), Holding { storage: None, compute: Compute::Int8 })
        .err()
        .expect("it is refused")
        .to_string();
    assert!(error.contains("stored as nf4") && error.contains("int8"), "{error}");
}
