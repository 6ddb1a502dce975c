use super::*;
use crate::simd::check;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}
