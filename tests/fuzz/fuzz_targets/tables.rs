//! The target `tables` of `engraft_fuzz`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    engraft_fuzz::run("tables", input);
});
