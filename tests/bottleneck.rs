//! A bottleneck as one operation, against central differences of its forward pass in double
//! precision.
mod support;
use engraft_engine::kernels::bottleneck;
use engraft_engine::*;
use support::{cpu, differences::*, noise};

/// Which weights exist and which train; what the residual is.
#[derive(Clone, Copy, Debug)]
struct Bottlenecks {
    bias: bool,
    down: bool,
    up: bool,
    in_out: bool,
    /// None, the input itself, or another.
    residual: Option<bool>,
    input: bool,
}
fn bottlenecks(shape @ [m, c, b]: [usize; 3], f: Activation, of: Bottlenecks) {
    let make = |trains: bool| if trains { leaf } else { frozen };
    let [d, u] = if of.in_out { [[c, b], [b, c]] } else { [[b, c], [c, b]] };
    let biases = |n: usize| [if of.bias { n } else { 0 }];
    let leaves = [
        make(of.input)(11, &[m, c]),
        make(of.down)(12, &d),
        make(of.down && of.bias)(13, &biases(b)),
        make(of.up)(14, &u),
        make(of.up && of.bias)(15, &biases(c)),
        make(of.residual == Some(false))(16, &[m, c]),
    ];
    check(
        &format!("bottleneck {shape:?} {f:?} {of:?}"),
        Pass::gradients(),
        &leaves,
        |cx, w| {
            let [x, other] = [0, 5].map(|i| input(cx, w[i].clone(), &pack([m])));
            let layer = |i: usize| LinearRef {
                w: w[i].clone(),
                b: of.bias.then_some(w[i + 1].clone()),
                in_out: of.in_out,
            };
            let r = of.residual.map(|same| if same { &x } else { &other });
            cx.bottleneck(&x, layer(1), f, layer(3), r).unwrap()
        },
        |x| {
            let turn = |v: &[f64], cols: usize| -> Vec<f64> {
                let rows = v.len() / cols;
                (0..v.len()).map(|i| v[i % rows * cols + i / rows]).collect()
            };
            let (d, u) =
                if of.in_out { (turn(&x[1], b), turn(&x[3], c)) } else { (x[1].clone(), x[3].clone()) };
            let bias = |i: usize| of.bias.then_some(&x[i][..]);
            let (_, mut y) = bottleneck::reference(f, shape, (&d, bias(2), &u, bias(4)), &x[0]);
            if let Some(same) = of.residual {
                y.iter_mut().zip(&x[if same { 0 } else { 5 }]).for_each(|(y, r)| *y += r);
            }
            y
        },
    );
}
#[test]
fn bottlenecks_trained_and_frozen_with_and_without_a_residual() {
    for (shape, f) in [
        ([1, 1, 1], Activation::Gelu),
        ([5, 3, 1], Activation::Silu),
        ([1, 4, 6], Activation::Tanh),
        ([7, 6, 4], Activation::Gelu),
    ] {
        for i in 0..16 {
            for residual in [None, Some(true), Some(false)] {
                let [bias, down, up, in_out] = [1, 2, 4, 8].map(|bit| i & bit > 0);
                // with nothing below it that trains, the gradient of x is not computed
                for input in [true, false] {
                    if input || down || up || residual == Some(false) {
                        bottlenecks(shape, f, Bottlenecks { bias, down, up, in_out, residual, input });
                    }
                }
            }
        }
    }
}
#[test]
fn a_bottleneck_with_each_activation() {
    let of =
        Bottlenecks { bias: true, down: true, up: true, in_out: false, residual: Some(true), input: true };
    for f in Activation::ALL {
        bottlenecks([4, 5, 3], f, of);
    }
}
#[test]
fn a_second_batch_adds_to_the_gradients_of_a_bottleneck() {
    let (m, c, b) = (9, 7, 5);
    let (device, mut set) = (cpu(), ParamSet::new());
    let mut make = |seed: u64, shape: &[usize]| {
        let values = device.upload(Class::Scratch, &noise(seed, shape.iter().product())).unwrap();
        set.param("leaf", Tensor::new(values, shape).unwrap(), Role::WEIGHT).unwrap()
    };
    let w = [make(1, &[b, c]), make(2, &[b]), make(3, &[c, b]), make(4, &[c])];
    let layer = |i: usize| LinearRef { w: w[i].get(), b: Some(w[i + 1].get()), in_out: false };
    let add = |seed: u64, g: &mut Gradients| {
        let up = |seed: u64| device.upload(Class::Scratch, &noise(seed, m * c)).unwrap();
        let mut cx = Cx::new(&device, &Plain, Pass::gradients());
        let x = Act::new(up(seed), c, pack([m])).unwrap();
        let y = cx.bottleneck(&x, layer(0), Activation::Gelu, layer(2), Some(&x)).unwrap();
        cx.backward(&y, up(seed + 1), g).unwrap();
    };
    let read = |g: &Gradients| w.each_ref().map(|p| g.get(p).unwrap().read::<f32>().unwrap());
    let [mut one, mut two, mut both] = [(); 3].map(|()| Gradients::new());
    add(10, &mut one);
    add(20, &mut two);
    add(10, &mut both);
    add(20, &mut both);
    for ((a, b), sum) in read(&one).iter().zip(read(&two)).zip(read(&both)) {
        let want: Vec<f64> = a.iter().zip(&b).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
        agree("two batches", sum.as_slice(), &want).unwrap();
    }
}

#[test]
fn bottlenecks_of_their_own_for_ranges_of_rows() {
    // rows 0..2 of one width, 2..3 of none, 3..3 empty, 4..9 of another; the first one once more
    // behind them
    let (m, c, widths) = (11usize, 4usize, [3usize, 2]);
    let ranges = [(0, 0..2), (1, 3..3), (1, 4..9), (0, 9..10)];
    for (residual, input) in [(true, true), (false, true), (true, false)] {
        let make = if input { leaf } else { frozen };
        let mut leaves = vec![make(1, &[m, c])];
        for (i, b) in widths.iter().enumerate() {
            let seed = 10 * (i as u64 + 1);
            leaves.extend([
                leaf(seed, &[*b, c]),
                leaf(seed + 1, &[*b]),
                leaf(seed + 2, &[c, *b]),
                leaf(seed + 3, &[c]),
            ]);
        }
        check(
            &format!("bottlenecks, residual {residual}, input {input}"),
            Pass::gradients(),
            &leaves,
            |cx, w| {
                let x = crate::input(cx, w[0].clone(), &pack([m]));
                let layer =
                    |i: usize| LinearRef { w: w[i].clone(), b: Some(w[i + 1].clone()), in_out: false };
                let part = |(which, rows): &(usize, std::ops::Range<usize>)| ops::RowsBottleneck {
                    rows: rows.clone(),
                    down: layer(1 + 4 * which),
                    f: Activation::Gelu,
                    up: layer(3 + 4 * which),
                };
                let parts = ranges.iter().map(part).collect();
                cx.bottlenecks(&x, parts, residual.then_some(&x)).unwrap()
            },
            |x| {
                let mut y = if residual { x[0].clone() } else { vec![0.0; m * c] };
                for (which, rows) in &ranges {
                    let i = 1 + 4 * which;
                    let weights = (&x[i][..], Some(&x[i + 1][..]), &x[i + 2][..], Some(&x[i + 3][..]));
                    let own = &x[0][rows.start * c..rows.end * c];
                    let shape = [rows.len(), c, widths[*which]];
                    let up = bottleneck::reference(Activation::Gelu, shape, weights, own).1;
                    y[rows.start * c..rows.end * c].iter_mut().zip(up).for_each(|(y, u)| *y += u);
                }
                y
            },
        );
    }
    let device = cpu();
    let w = Frozen::new(Tensor::new(device.zeros::<f32>(Class::Scratch, 2).unwrap(), &[1, 2]).unwrap());
    let up = Frozen::new(Tensor::new(device.zeros::<f32>(Class::Scratch, 2).unwrap(), &[2, 1]).unwrap());
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let x = Act::new(device.zeros::<f32>(Class::Scratch, 6).unwrap(), 2, pack([3])).unwrap();
    let part = |rows| ops::RowsBottleneck {
        rows,
        down: LinearRef { w: w.get(), b: None, in_out: false },
        f: Activation::Relu,
        up: LinearRef { w: up.get(), b: None, in_out: false },
    };
    for wrong in [vec![part(0..4)], vec![part(0..2), part(1..3)], vec![part(2..3), part(0..1)]] {
        assert!(cx.bottlenecks(&x, wrong, None).unwrap_err().to_string().contains("bottleneck"));
    }
}

/// Outputs and the gradient of the input, bit by bit.
#[test]
fn weights_stored_in_fewer_bytes_compute_what_their_values_do() {
    let (m, c, b) = (5, 96, 7);
    let device = cpu();
    let mut set = ParamSet::new();
    let values = device.upload(Class::Scratch, &noise(1, m * c)).unwrap();
    let x = set.param("x", Tensor::new(values, &[m, c]).unwrap(), Role::WEIGHT).unwrap();
    for storage in Storage::ALL.into_iter().filter(|s| *s != Storage::F32) {
        let stored = |seed: u64, dims: [usize; 2]| {
            let values = device.upload(Class::Scratch, &noise(seed, c * b)).unwrap();
            let plain = kernels::matmul::Matrix::plain(&values, dims[0], dims[1]);
            let (buf, scales) = kernels::storage::convert(plain, storage, Class::Backbone).unwrap();
            Frozen::new(Tensor::stored(buf, scales, dims).unwrap())
        };
        let decoded = |w: &Frozen| {
            let values = device.upload(Class::Backbone, &w.tensor().to_f32().unwrap()).unwrap();
            Frozen::new(Tensor::new(values, w.tensor().shape()).unwrap())
        };
        let run = |down: &Frozen, up: &Frozen| {
            let layer = |w| LinearRef { w, b: None, in_out: false };
            let mut cx = Cx::new(&device, &Plain, Pass::gradients());
            let x_in = input(&mut cx, x.get(), &pack([m]));
            let (down, up) = (layer(down.get()), layer(up.get()));
            let y = cx.bottleneck(&x_in, down, Activation::Gelu, up, Some(&x_in)).unwrap();
            let (out, mut g) = (y.read().unwrap(), Gradients::new());
            cx.backward(&y, device.upload(Class::Scratch, &noise(9, m * c)).unwrap(), &mut g).unwrap();
            (out, g.get(&x).unwrap().read::<f32>().unwrap())
        };
        let (down, up) = (stored(2, [b, c]), stored(3, [c, b]));
        assert_eq!(down.tensor().storage(), storage);
        assert!(run(&down, &up) == run(&decoded(&down), &decoded(&up)), "{storage}");
    }
}
