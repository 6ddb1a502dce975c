//! Inputs as files.
use std::{fs, path::Path};
use tempfile::TempDir;

/// The line between the parts of an input that stands for several files.
const BETWEEN: &[u8] = b"\n=====\n";

/// The parts of an input, at most so many: the last one is all that is left. An empty part is a
/// file that is not there.
pub fn parts<const N: usize>(input: &[u8]) -> [Option<&[u8]>; N] {
    let mut rest = Some(input);
    std::array::from_fn(|i| {
        let all = rest.take()?;
        let cut = all.windows(BETWEEN.len()).position(|w| w == BETWEEN).filter(|_| i + 1 < N);
        let part = match cut {
            Some(at) => {
                rest = Some(&all[at + BETWEEN.len()..]);
                &all[..at]
            }
            None => all,
        };
        Some(part).filter(|p| !p.is_empty())
    })
}

/// An empty directory, in memory where there is a place for that.
pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory for files")
}

/// Writes a file, if there is one to write.
pub fn put(directory: &Path, name: &str, bytes: Option<&[u8]>) {
    if let Some(bytes) = bytes {
        fs::write(directory.join(name), bytes).expect("a file is written");
    }
}

/// Whether `torch.save` may have written this; what has not is taken for safetensors.
pub fn is_torch(bytes: Option<&[u8]>) -> bool {
    bytes.is_some_and(|b| b.starts_with(b"PK") || b.starts_with(&[0x80]))
}
