//! Every timed case of every kernel: `cargo bench -p engraft-workspace --bench kernels [-- FILTER]`.
//!
//! Criterion reports elements per second; an element is one floating-point operation, or one byte for kernels that only move
//! data. `ENGRAFT_KERNELS=avx512|avx2|portable` chooses the code path, `ENGRAFT_THREADS` the threads (default: all cores).
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engraft_kernels::{Device, KERNELS};

fn kernels(c: &mut Criterion) {
    let threads = std::env::var("ENGRAFT_THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    let device = Device::cpu(threads).expect("the processor");
    for kernel in KERNELS {
        let mut group = c.benchmark_group(kernel.name);
        for case in (kernel.cases)().into_iter().filter(|c| c.timed) {
            let amount = if case.flops > 0.0 { case.flops } else { case.bytes };
            group.throughput(Throughput::Elements(amount as u64));
            let mut run = (case.prepare)(&device).expect("a case prepares");
            group.bench_function(&case.label, |b| b.iter(|| run.launch().expect("a case launches")));
        }
        group.finish();
    }
}
criterion_group! {
    name = all;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(2));
    targets = kernels
}
criterion_main!(all);
