//! safetensors in and out; what `torch.save` writes in.
//!
//! A frozen matrix (rows, cols) may be stored quantised, with its scales beside it:
//!
//! ```text
//! NAME         F32, BF16 or F16  [rows, cols]
//!
//! NAME         I8                [rows, cols]            int8, -127..=127
//! NAME.scale   F32               [rows]
//!
//! NAME         U8                [rows, ⌈cols / 2⌉]      nf4: two codes a byte, the first in the low four bits
//! NAME.scale   U8                [rows, ⌈cols / 64⌉]     for each block of 64 values one of 256 steps
//! NAME.range   F32               [⌈blocks / 256⌉, 2]     for each 256 blocks m and r: a block's scale is m + r step
//! ```
//! What the numbers mean is in [`engraft_kernels::storage`]. Everything that is not a
//! matrix is a float.
mod frozen;
mod header;
mod load;
mod read;
mod torch;
mod write;

pub use load::{LinearForm, Load};
pub use read::{Checkpoint, MODEL};
pub use write::{TensorData, save, serialize, serialize_with, write};
