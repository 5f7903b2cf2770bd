//! `make soak`: twenty times as many lives as the tests live, from other seeds.

use super::seeds;
use super::troubles::Troubles;

#[test]
#[ignore = "takes an hour; make soak"]
fn twenty_thousand_lives_end_well() {
    seeds::all_go_well(20_000, Troubles::ALL);
}
