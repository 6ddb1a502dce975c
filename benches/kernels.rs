//! Every timed case of every kernel:
//! `cargo bench -p engraft-workspace --bench kernels [-- FILTER]`.
//!
//! `thrpt` is in GFLOP/s, and in GB/s of what a launch must read and write at least.
//! `ENGRAFT_KERNELS=avx512|avx2|portable` chooses the code path, `ENGRAFT_THREADS` the threads
//! (default: all cores). `ENGRAFT_DEVICE=cuda` times them on the first GPU, and `cuda-bf16` there
//! with products on tensor cores.
use criterion::{
    Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use engraft_kernels::{Device, KERNELS, Products};
use std::time::{Duration, Instant};

/// Wall time, with throughput in the units of the roofline.
struct Rates;
/// Operations are criterion's elements; a value is in nanoseconds.
impl ValueFormatter for Rates {
    fn format_throughput(&self, of: &Throughput, ns: f64) -> String {
        let Throughput::ElementsAndBytes { elements, bytes } = *of else {
            return WallTime.formatter().format_throughput(of, ns);
        };
        format!("{:.1} GFLOP/s {:.1} GB/s", elements as f64 / ns, bytes as f64 / ns)
    }
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }
    fn scale_throughputs(&self, typical: f64, of: &Throughput, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_throughputs(typical, of, values)
    }
    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
impl Measurement for Rates {
    type Intermediate = Instant;
    type Value = Duration;
    fn start(&self) -> Instant {
        WallTime.start()
    }
    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        WallTime.add(a, b)
    }
    fn zero(&self) -> Duration {
        WallTime.zero()
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

fn device() -> Device {
    let threads = std::env::var("ENGRAFT_THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    match std::env::var("ENGRAFT_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::cpu(threads),
        Ok("cuda") => Device::cuda(0),
        Ok("cuda-bf16") => Device::cuda_with(0, Products::Bf16),
        Ok(other) => panic!("ENGRAFT_DEVICE is {other}: cpu, cuda or cuda-bf16"),
    }
    .expect("the device opens")
}

fn kernels(c: &mut Criterion<Rates>) {
    let device = device();
    let runs = |c: &engraft_kernels::Case| c.timed && (c.cuda || device.name() == "cpu");
    for kernel in KERNELS {
        let mut group = c.benchmark_group(kernel.name);
        for case in (kernel.cases)().into_iter().filter(runs) {
            let (elements, bytes) = (case.flops as u64, case.bytes as u64);
            group.throughput(Throughput::ElementsAndBytes { elements, bytes });
            let mut run = (case.prepare)(&device).expect("a case prepares");
            let mut times = |n| {
                let start = Instant::now();
                (0..n).for_each(|_| run.launch().expect("a case launches"));
                // a GPU is not done when a launch returns
                device.synchronize().expect("the launches end well");
                start.elapsed()
            };
            group.bench_function(&case.label, |b| b.iter_custom(&mut times));
        }
        group.finish();
    }
}
criterion_group! {
    name = all;
    config = Criterion::default()
        .with_measurement(Rates)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = kernels
}
criterion_main!(all);
