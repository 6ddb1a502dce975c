//! Training on a GPU: the numbers of the processor and of the reference libraries.
//!
//! With `--features cuda-sim` the GPU is the stand-in of `kernels/cuda-sim`. Without it, it is the
//! machine's first one; on a machine that has none, that is said and nothing is compared.
mod support;
use engraft_engine::*;
use engraft_models::Rows;
use std::io::Write;
use support::{composed, grafted::*, *};

const SIM: bool = cfg!(feature = "cuda-sim");

/// The device, or nothing where there is none.
fn gpu(test: &str) -> Option<Device> {
    match Device::cuda(0) {
        Ok(d) => Some(d),
        Err(e) if SIM => panic!("the stand-in must open: {e}"),
        Err(e) => {
            // past the test harness, which keeps what successful tests print
            let _ = writeln!(std::io::stderr(), "cuda: {test}: SKIPPED, {e}");
            None
        }
    }
}

/// A step whose gradients are clipped, and the loss, which is all that is read.
fn step(case: &mut Case, optimiser: &mut AdamW, number: u64) -> (f32, Gradients) {
    let mut g = Gradients::new();
    let mut cx = Cx::new(&case.device, case.hooks(), Pass::train(3, number));
    let hidden = case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap();
    let pooled = case.pooled(&mut cx, &hidden);
    let logits = case.head.forward(&mut cx, &pooled, 0.1, None).unwrap();
    let (loss, count) = cx.cross_entropy(&logits, &case.labels).unwrap();
    drop((hidden, pooled, logits));
    let dy = case.device.upload(Class::Scratch, &[1.0 / count as f32]).unwrap();
    cx.backward(&loss, dy, &mut g).unwrap();
    let loss = loss.read().unwrap()[0] / count as f32;
    support::step(optimiser, &mut case.parameters(), &g, 1e-2, 1.0);
    (loss, g)
}

#[test]
fn five_steps_give_the_losses_and_gradients_of_the_processor() {
    let Some(gpu) = gpu("five steps") else { return };
    for name in ["houlsby", "pfeiffer", "parallel", "scaled-parallel"] {
        let steps = |device: &Device| {
            let (mut case, mut optimiser) = (build(name, device, |c| c.dropout = 0.1), AdamW::new(0.01));
            let one = |n| {
                let (loss, g) = step(&mut case, &mut optimiser, n);
                (loss, case.gradients(&g))
            };
            (0..5).map(one).collect::<Vec<_>>()
        };
        for (n, ((loss, on_gpu), (want, on_cpu))) in steps(&gpu).into_iter().zip(steps(&cpu())).enumerate() {
            assert!((loss - want).abs() < 1e-4 * want.abs(), "{name}, step {n}: {loss}, not {want}");
            for ((weight, got), (_, want)) in on_gpu.into_iter().zip(on_cpu) {
                assert_eq!(got.is_some(), want.is_some(), "{name}, step {n}: {weight}");
                let (Some(got), Some(want)) = (got, want) else { continue };
                let e = relative_gradient(&got, &want);
                assert!(e < 1e-4, "{name}, step {n}: {weight} {e:.1e}");
            }
        }
    }
}

#[test]
fn adapters_and_fusions_of_the_library_have_its_outputs_and_gradients() {
    let Some(gpu) = gpu("setups of adapters") else { return };
    for family in ["bert", "gpt2", "t5"] {
        let want = composed::expected(family);
        // on the stand-in a pass takes its time
        let some = composed::cases(family, &gpu).into_iter().step_by(if SIM { 6 } else { 1 });
        for case in some {
            case.agrees(family, &want, &Activations::default());
        }
    }
}

#[test]
fn what_a_gpu_holds_is_predicted() {
    let Some(gpu) = gpu("memory") else { return };
    for name in ["houlsby", "full"] {
        let run = |device: &Device| {
            let mut case = Case::load(name, device);
            let mut optimiser = AdamW::new(0.01);
            device.ledger().reset_peak();
            (0..2).for_each(|n| drop(step(&mut case, &mut optimiser, n)));
            let usage = device.ledger().usage();
            drop((case, optimiser));
            assert_eq!(
                device.ledger().usage().live_total(),
                0,
                "{name} on {}: bytes are left",
                device.name()
            );
            usage
        };
        assert_eq!(run(&Device::null_gpu()), run(&gpu), "{name}");
    }
}

#[cfg(feature = "cuda-sim")]
#[test]
fn a_step_copies_indices_in_and_the_loss_out() {
    use engraft_engine::kernels::stand_in::counts;
    // in a process of its own: others count too
    if std::env::var_os("ENGRAFT_COUNT").is_none() {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let test = "a_step_copies_indices_in_and_the_loss_out";
        let out = again.args([test, "--exact"]).env("ENGRAFT_COUNT", "1").output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        return;
    }
    let gpu = Device::cuda(0).unwrap();
    let (mut case, mut optimiser) = (build("houlsby", &gpu, |c| c.dropout = 0.1), AdamW::new(0.01));
    step(&mut case, &mut optimiser, 0);
    let (before, held) = (counts().unwrap(), gpu.ledger().usage().live_total() as u64);
    step(&mut case, &mut optimiser, 1);
    let after = counts().unwrap();
    assert_eq!((after.copies_down - before.copies_down, after.bytes_down - before.bytes_down), (1, 4));
    // ids, types and positions, the rows that are taken, labels, and the loss's gradient
    let tokens: usize = case.tokens.lengths.iter().sum();
    let up = after.bytes_up - before.bytes_up;
    assert!(up <= 4 * (3 * tokens + 3 * case.labels.len() + 1) as u64, "{up} bytes for {tokens} tokens");
    assert!(after.launches > before.launches);
    // nothing grows from step to step, and beside the ledger there is little: tables of sequences
    assert_eq!(after.allocated, before.allocated);
    assert!(after.allocated >= held && after.allocated < held + 16384, "{} and {held}", after.allocated);
}
