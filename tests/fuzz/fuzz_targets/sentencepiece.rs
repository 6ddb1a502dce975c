//! The target `sentencepiece` of `engraft_fuzz`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    engraft_fuzz::run("sentencepiece", input);
});
