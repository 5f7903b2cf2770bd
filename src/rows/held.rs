//! Rows that vanish in mass: a migration that lost them, or a person who wanted it. Nobody here knows which, so they are
//! held: not published as deleted, not put back, until a person says so.

use super::desk::Desk;
use super::shadow::{Shadow, ShadowError};

/// More than one row in this many, and more than [`MANY`], or all of more than [`FEW`].
const SHARE: u64 = 20;
const MANY: u64 = 50;
const FEW: u64 = 10;

/// Whether so many rows gone, of those that were known, are no ordinary deletion. `left`: of those that the last scan saw.
pub fn in_mass(gone: u64, known: u64, left: u64) -> bool {
    (gone > MANY && gone.saturating_mul(SHARE) > known) || (left == 0 && gone > FEW)
}

/// Holds the rows of a table that are gone.
///
/// # Errors
/// The shadow's.
pub fn hold(desk: Desk<'_>, table: &str) -> Result<(), ShadowError> {
    let sql = "UPDATE rows SET held = 1 WHERE tab = ?1 AND uid IN (SELECT uid FROM temp.gone WHERE tab = ?1)";
    desk.shadow.db.execute(sql, [table])?;
    desk.shadow.db.execute("DELETE FROM temp.gone WHERE tab = ?1", [table])?;
    Ok(())
}

/// Holds nothing any more: the next scan finds the rows gone.
///
/// # Errors
/// The shadow's.
pub fn release(shadow: &Shadow) -> Result<(), ShadowError> {
    shadow.db.execute("UPDATE rows SET held = 0 WHERE held", [])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::in_mass;

    #[test]
    fn what_is_no_ordinary_deletion() {
        let table = [
            // gone, known, left → in mass
            ((1, 5, 4), false),
            ((5, 5, 0), false),
            ((10, 10, 0), false),
            ((11, 11, 0), true),
            ((50, 100, 50), false),
            ((51, 100, 49), true),
            ((51, 1020, 969), false),
            ((51, 1019, 968), true),
            ((600, 33_000, 32_400), false),
        ];
        for ((gone, known, left), wanted) in table {
            assert_eq!(in_mass(gone, known, left), wanted, "{gone} of {known}, {left} left");
        }
    }
}
