//! The micro-kernel and the packing for AVX-512 and for AVX2: each tile that a plan may ask for.
use super::{
    few,
    operands::Job,
    pack::{self, Piece},
    tile::{self, Kernel, Tile},
    transpose::{self, Block},
};
use crate::storage::view::Stored;

/// The code for the instructions of a token: tiles of so many vectors and of so many rows.
macro_rules! code {
    ($name:ident $token:ident $features:tt, $($nv:literal: $($mr:literal)*;)*) => {
        pub(super) mod $name {
            use super::*;
            use crate::simd::$token;

            /// [`tile::tile`].
            ///
            /// # Safety
            /// As there, and the processor has the instructions.
            #[target_feature(enable = $features)]
            unsafe fn entry<const MR: usize, const NV: usize, const ALONG: bool, const PACKED: bool>(t: &Tile) {
                // SAFETY: the processor has the instructions, and the caller answers
                // for the pointers.
                unsafe { tile::tile::<_, MR, NV, ALONG, PACKED>($token::assume(), t) }
            }
            /// The kernel for tiles of `rows` x `vectors`. `along`: A's columns are neighbours;
            /// else its rows are. `packed`: B's rows follow one another.
            pub(in crate::matmul) fn kernel(rows: usize, vectors: usize, along: bool, packed: bool) -> Kernel {
                match (vectors, rows, along, packed) {
                    $($(
                        ($nv, $mr, true, true) => entry::<$mr, $nv, true, true>,
                        ($nv, $mr, true, false) => entry::<$mr, $nv, true, false>,
                        ($nv, $mr, false, true) => entry::<$mr, $nv, false, true>,
                        ($nv, $mr, false, false) => entry::<$mr, $nv, false, false>,
                    )*)*
                    _ => unreachable!("{rows} rows of {vectors} vectors"),
                }
            }
            /// [`pack::pack`].
            ///
            /// # Safety
            /// As there, and the processor has the instructions.
            #[target_feature(enable = $features)]
            pub(in crate::matmul) unsafe fn pack<W: Stored>(from: &Piece<W>, panel: usize, to: *mut f32) {
                // SAFETY: the processor has the instructions, and the caller answers
                // for the pointers.
                unsafe { pack::pack($token::assume(), from, panel, to) }
            }
            /// [`few::run`].
            ///
            /// # Safety
            /// As there, and the processor has the instructions.
            #[target_feature(enable = $features)]
            pub(in crate::matmul) unsafe fn few<W: Stored>(job: &Job<'_, W>, task: usize, slot: *mut f32) {
                // SAFETY: the processor has the instructions, and the caller answers
                // for the pointers.
                unsafe { few::run($token::assume(), job, task, slot) }
            }
            /// [`transpose::write_transposed`].
            ///
            /// # Safety
            /// As there, and the processor has the instructions.
            #[target_feature(enable = $features)]
            pub(in crate::matmul) unsafe fn write_transposed(block: &Block) {
                // SAFETY: the processor has the instructions, and the caller answers
                // for the pointers.
                unsafe { transpose::write_transposed($token::assume(), block) }
            }
        }
    };
}
// 9 x 48 are 27 accumulators of 32 registers, 3 loads and 9 broadcasts for 27 multiply-adds
code!(avx512 Avx512 "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c",
    1: 1 2 3 4 5 6 7 8 9;
    2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    3: 1 2 3 4 5 6 7 8 9;
    4: 1 2 3 4 5 6;
);
// 6 x 16 are 12 accumulators of 16 registers
code!(avx2 Avx2 "avx2,fma,f16c",
    1: 1 2 3 4 5 6;
    2: 1 2 3 4 5 6;
);
