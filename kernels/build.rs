//! Under the feature `cuda-sim`: compiles the CUDA kernels and the stand-in for the driver into a
//! shared library. Without it there is nothing to do, and no C++ compiler is needed.

#[cfg(not(feature = "cuda-sim"))]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}

#[cfg(feature = "cuda-sim")]
fn main() {
    use std::{env, path::PathBuf, process::Command};

    assert_eq!(
        env::var("CARGO_CFG_TARGET_OS").as_deref(),
        Ok("linux"),
        "the feature cuda-sim is written for Linux"
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).debug(false).pic(true).cargo_metadata(false);
    build.include("cuda-sim/include").flag("-Wno-unknown-pragmas");
    for unit in ["runtime", "driver", "kernels/layernorm", "kernels/matmul"] {
        build.file(format!("cuda-sim/{unit}.cpp"));
    }
    let objects = build.compile_intermediates();

    // cudarc looks for the name libcuda.so first: with that soname, once loaded, this library is
    // what it finds, also on a machine that has a driver.
    let library = out.join("libcuda.so");
    let mut link: Command = build.get_compiler().to_command();
    link.args(["-shared", "-Wl,-soname,libcuda.so", "-o"]).arg(&library).args(&objects);
    let status = link.status().expect("the C++ compiler has just been run");
    assert!(status.success(), "{link:?} failed: {status}");

    println!("cargo:rustc-env=ENGRAFT_CUDA_SIM_LIBRARY={}", library.display());
    for changed in ["build.rs", "cuda-sim", "src/layernorm/kernel.cu", "src/matmul/kernel.cu"] {
        println!("cargo:rerun-if-changed={changed}");
    }
}
