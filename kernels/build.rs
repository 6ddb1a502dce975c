//! Under the feature `cuda-sim`: compiles the CUDA kernels, which are found by the name of their
//! file, and the stand-in for the driver into a shared library. Without it there is nothing to do,
//! and no C++ compiler is needed.

#[cfg(not(feature = "cuda-sim"))]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}

#[cfg(feature = "cuda-sim")]
fn main() {
    use std::{env, fs, path::PathBuf};

    assert_eq!(
        env::var("CARGO_CFG_TARGET_OS").as_deref(),
        Ok("linux"),
        "the feature cuda-sim is written for Linux"
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).debug(false).pic(true).cargo_metadata(false);
    build.include("cuda-sim").include("cuda-sim/include").include("src");

    let folders = fs::read_dir("src").expect("the sources are here").flatten();
    let mut kernels: Vec<PathBuf> = folders.map(|f| f.path().join("kernel.cu")).collect();
    kernels.retain(|k| k.exists());
    kernels.sort();
    let mut compile = build.clone();
    // a kernel.cu is C++ once this header has been read
    compile.flag("-xc++").flag("-include").flag("cuda_sim.h").flag("-Wno-unknown-pragmas").files(&kernels);
    let mut objects = compile.compile_intermediates();
    objects.extend(
        build.clone().file("cuda-sim/runtime.cpp").file("cuda-sim/driver.cpp").compile_intermediates(),
    );

    // cudarc looks for the name libcuda.so first: with that soname, once loaded, this library is
    // what it finds, also on a machine that has a driver.
    let library = out.join("libcuda.so");
    let mut link = build.get_compiler().to_command();
    link.args(["-shared", "-Wl,-soname,libcuda.so", "-o"]).arg(&library).args(&objects);
    let status = link.status().expect("the C++ compiler has just been run");
    assert!(status.success(), "{link:?} failed: {status}");

    println!("cargo:rustc-env=ENGRAFT_CUDA_SIM_LIBRARY={}", library.display());
    // "src" by itself: a new kernel.cu may appear in any folder
    for changed in ["build.rs", "cuda-sim", "src"] {
        println!("cargo:rerun-if-changed={changed}");
    }
}
