//! What the header of a file of ours says besides its tensors.
use sha2::{Digest, Sha256};

/// The header entry that holds the checksum of the tensors. Other readers ignore it.
pub(super) const CHECKSUM: &str = "engraft.sha256";
/// The header entry with what is said about the tensors.
pub(super) const NOTE: &str = "engraft.note";

/// SHA-256 over (name, bytes), in the order of the names.
pub(super) struct Checksum(Sha256);
impl Checksum {
    pub fn new() -> Checksum {
        Checksum(Sha256::new())
    }
    pub fn add(&mut self, name: &str, data: &[u8]) {
        self.0.update(name);
        self.0.update([0]);
        self.0.update(data);
    }
    pub fn end(self) -> String {
        self.0.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}
