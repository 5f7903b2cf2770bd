//! `make soak`: many more lives of a fleet.

use super::seeds;

#[test]
#[ignore = "takes an hour; make soak"]
fn two_thousand_lives_of_a_fleet_end_well() {
    seeds::all_go_well(2_000);
}
