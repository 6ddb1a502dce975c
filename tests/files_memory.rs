//! What a file claims is held against the file before memory is taken for it: hostile pickles cost
//! a small multiple of themselves.
mod support;
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use std::path::Path;
use support::{
    faults::{says, try_checkpoint},
    fixture,
};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// For each byte of a file, and for whatever is opened.
const MOST: (usize, usize) = (100, 1 << 20);

/// Opens a file of these bytes: it may be refused, and must not take much memory.
fn open(dir: &Path, bytes: &[u8]) -> Result<(), String> {
    let path = dir.join("t.bin");
    std::fs::write(&path, bytes).unwrap();
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let result = try_checkpoint(&path);
    let taken = ALLOCATED.peak_usage().saturating_sub(before);
    assert!(
        taken <= MOST.0 * bytes.len() + MOST.1,
        "{taken} bytes for a file of {}: {result:?}",
        bytes.len()
    );
    result
}
/// A file in the older layout whose dictionary is this pickle.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    let whole = std::fs::read(fixture("files/torch/legacy.bin")).unwrap();
    // the third pickle, which says what machine it was, ends with the only `u.` before the
    // dictionary
    let start = whole.windows(2).position(|w| w == b"u.").unwrap() + 2;
    [&whole[..start], pickle].concat()
}
const ORDERED: &[u8] = b"ccollections\nOrderedDict\n";

/// Opcodes that make something of little, with all sorts of arguments.
fn opcode() -> impl Strategy<Value = Vec<u8>> {
    let number = |code: u8| any::<[u8; 4]>().prop_map(move |n| [&[code][..], &n].concat());
    prop_oneof![
        prop::sample::select(b"(N)]}0123testuabRQ.\x88\x89\x94\x85\x86\x87\x93".to_vec())
            .prop_map(|c| vec![c]),
        (prop::sample::select(b"qhK".to_vec()), 0..8u8).prop_map(|(c, n)| vec![c, n]),
        prop::sample::select(b"XTBrjJ\x8b".to_vec()).prop_flat_map(number),
        Just(b"X\x01\0\0\0a".to_vec()),
        Just(ORDERED.to_vec()),
        Just(b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec()),
        Just(b"ctorch\nFloatStorage\n".to_vec()),
        (0..40usize).prop_map(|n| b"h\0".repeat(n)),
    ]
}

#[test]
fn a_hostile_file_costs_a_small_multiple_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let many = 1 << 19;
    let repeated = |before: &[u8], what: &[u8], after: &[u8]| {
        legacy(&[b"\x80\x02", before, &what.repeat(many / what.len()), after].concat())
    };
    for bomb in [
        repeated(b"", b"N", b"."),
        repeated(b"", b")", b"."),
        repeated(b"", b"]", b"."),
        repeated(b"", b"}", b"."),
        repeated(b"", b"(", b"."),
        repeated(b"N", b"\x94", b"."),
        repeated(b"]q\0(", b"h\0", b"e."),
        repeated(b"}q\0(", b"h\0", b"u."),
        // each of them makes one more of all before it
        repeated(b"]q\0", b"(h\0h\0h\0h\0t0h\0a", b"."),
        repeated(
            &[b"]q\0(", &b"K\x01K\x02\x86"[..].repeat(1000)[..], b"e"].concat(),
            &[ORDERED, b"h\0\x85R"].concat(),
            b".",
        ),
        legacy(b"\x80\x02X\xff\xff\xff\xff"),
        legacy(b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff"),
        legacy(b"\x80\x02\x8b\xff\xff\xff\xff"),
        legacy(b"\x80\x02Nr\xff\xff\xff\xff0j\xff\xff\xff\xff."),
    ] {
        open(dir.path(), &bomb).unwrap_err();
    }
    // one tensor under very many names
    let dims = [&b"("[..], &b"K\x01".repeat(16), b"t"].concat();
    let text = |s: &[u8]| [&b"X"[..], &(s.len() as u32).to_le_bytes()[..], s].concat();
    let storage = [
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text(b"storage")[..],
        b"ctorch\nFloatStorage\n",
        &text(b"k"),
        &text(b"cpu"),
        b"K\x01NtQK\x00",
    ]
    .concat();
    let tensor = [&storage[..], &dims, &dims, b"\x89}tRq\x01"].concat();
    let names = (0..1u32 << 16)
        .flat_map(|i| [&b"\x8c\x02"[..], &[(i >> 8) as u8 & 127, i as u8 & 127], b"h\x01"].concat());
    let all =
        [b"\x80\x02", &tensor[..], b"0}(", &names.collect::<Vec<_>>(), b"u.\x80\x02]", &text(b"k"), b"a."]
            .concat();
    let many = legacy(&[&all[..], &1u64.to_le_bytes(), &1f32.to_le_bytes()].concat());
    says(open(dir.path(), &many), &["it names more tensors than there is room for"]);
    let one = [b"\x80\x02}X\x01\0\0\0w", &tensor[..], b"s.\x80\x02]", &text(b"k"), b"a."].concat();
    open(dir.path(), &legacy(&[&one[..], &1u64.to_le_bytes(), &1f32.to_le_bytes()].concat())).unwrap();
    // shapes and archives that claim much more than there is
    let zip = std::fs::read(fixture("files/torch/zip.bin")).unwrap();
    let found: Vec<usize> = (0..zip.len() - 2).filter(|i| zip[*i] == b'K').collect();
    for at in found {
        let mut bytes = zip.clone();
        bytes.splice(at..at + 2, b"J\xff\xff\xff\x7f".iter().copied());
        let _ = open(dir.path(), &bytes);
        let mut bytes = zip.clone();
        bytes[at + 1] = 255;
        let _ = open(dir.path(), &bytes);
    }
    for back in 1..200.min(zip.len()) {
        let mut bytes = zip.clone();
        let at = bytes.len() - back;
        bytes[at..].iter_mut().take(4).for_each(|b| *b = 0xff);
        let _ = open(dir.path(), &bytes);
    }
    proptest!(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() },
        |(ops in prop::collection::vec(opcode(), 1..40), times in 1..2000usize)| {
        let pickle = [&b"\x80\x02]q\0"[..], &ops.concat().repeat(times), b"."].concat();
        let _ = open(dir.path(), &legacy(&pickle));
    });
}
