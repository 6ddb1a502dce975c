//! The stand-in for the driver, for tests on machines without a GPU: `kernels/cuda-sim`.
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::sync::OnceLock;

/// What the stand-in has done since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counts {
    /// Copies from the host to the device.
    pub copies_up: u64,
    /// Bytes of these.
    pub bytes_up: u64,
    /// Copies from the device to the host.
    pub copies_down: u64,
    /// Bytes of these.
    pub bytes_down: u64,
    /// Kernels launched.
    pub launches: u64,
    /// Bytes that are allocated now.
    pub allocated: u64,
    /// The most bytes that were.
    pub most_allocated: u64,
}

/// The stand-in, loaded once for the whole process: the one this crate was built with, or that of
/// `ENGRAFT_CUDA_SIM_LIBRARY`.
pub(crate) fn library() -> Result<&'static Library, String> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let given = std::env::var_os("ENGRAFT_CUDA_SIM_LIBRARY");
        let path = given.unwrap_or_else(|| env!("ENGRAFT_CUDA_SIM_LIBRARY").into());
        // SAFETY: our own library, built from `kernels/cuda-sim`; its initialisers fill a table of
        // kernels. It stays open for as long as the process runs.
        unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }
            .map_err(|e| format!("{}: {e}", path.display()))
    });
    library.as_ref().map_err(String::clone)
}

/// The counters as they stand; an error if there is no stand-in.
pub fn counts() -> Result<Counts, String> {
    let mut counts = Counts::default();
    // SAFETY: the function has this type in `driver.cpp`, and writes a structure of the same fields.
    unsafe {
        let get = library()?.get::<unsafe extern "C" fn(*mut Counts)>(b"engraft_cuda_sim_counts");
        get.map_err(|e| e.to_string())?(&mut counts);
    }
    Ok(counts)
}
