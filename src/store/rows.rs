//! How many rows, and which texts, the statements have that take many: few texts, so that all stay
//! prepared.

/// The most rows that one statement inserts or updates: a power of two, so that few texts of each
/// statement are prepared, and small enough for SQLite's limit on parameters.
pub(super) const ROWS_AT_ONCE: usize = 128;

/// Cuts rows into runs of 128, 64, … 1, so that a statement has at most eight texts, all prepared.
pub(super) fn runs<T>(mut rows: &[T]) -> Vec<&[T]> {
    let mut runs = Vec::new();
    while !rows.is_empty() {
        let largest = 1_usize << rows.len().ilog2();
        let (run, rest) = rows.split_at(largest.min(ROWS_AT_ONCE));
        runs.push(run);
        rows = rest;
    }
    runs
}

/// The rows of one statement, the last repeated until there are as many as one of few texts has: a
/// power of two, or one and a half. Only for statements to which a repeated row makes no difference.
pub(super) fn padded<T>(run: &[T]) -> impl Iterator<Item = &T> {
    let half = run.len().next_power_of_two() / 2;
    let three_quarters = half + half / 2;
    let size = if run.len() <= three_quarters { three_quarters } else { run.len().next_power_of_two() };
    run.iter().chain(std::iter::repeat_n(run.last(), size - run.len()).flatten())
}

/// Ids for an `in (…)`, each once, in order, the last repeated up to a power of two, so that few
/// texts of a statement are prepared.
pub(super) fn in_list<T: Copy + Ord>(ids: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<T> = ids.into_iter().collect::<std::collections::BTreeSet<T>>().into_iter().collect();
    if let Some(last) = ids.last().copied() {
        ids.resize(ids.len().next_power_of_two(), last);
    }
    ids
}

#[cfg(test)]
mod tests {
    #[test]
    fn rows_are_cut_into_powers_of_two() {
        let rows = vec![(); 1_100];
        let lengths: Vec<usize> = super::runs(&rows).iter().map(|run| run.len()).collect();
        assert_eq!(lengths, [128, 128, 128, 128, 128, 128, 128, 128, 64, 8, 4]);
        assert!(super::runs::<()>(&[]).is_empty());
    }

    #[test]
    fn a_padded_run_repeats_its_last_row() {
        for (count, padded) in [(1, 1), (2, 2), (3, 3), (5, 6), (7, 8), (9, 12), (13, 16), (300, 384), (512, 512)] {
            let rows: Vec<usize> = (0..count).collect();
            let all: Vec<usize> = super::padded(&rows).copied().collect();
            assert_eq!((all.len(), &all[..count]), (padded, &rows[..]));
            assert!(all[count..].iter().all(|row| *row == count - 1));
        }
        assert_eq!(super::padded::<u8>(&[]).count(), 0);
    }

    #[test]
    fn an_in_list_has_each_id_and_a_power_of_two_of_them() {
        assert_eq!(super::in_list([3, 1, 2, 1, 5, 4]), [1, 2, 3, 4, 5, 5, 5, 5]);
        assert!(super::in_list::<u8>([]).is_empty());
    }
}
