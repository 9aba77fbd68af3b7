//! Worlds that once went wrong, and a few others: what they found must not come back.

/// Seeds with what they found.
const SEEDS: [(u64, &str); 7] = [
    (1, "crash holes were taken for lost messages when the store was rebuilt"),
    (9, "cleaning merged an empty segment in, and the idempotency keys before it were forgotten"),
    (10, "an empty segment after a crash hid the idempotency keys of those before it"),
    (258, "a will that its client's next one replaced was cleaned away before it was published"),
    (321, "messages passed behind a failed commit, and the store forgot what that had published once"),
    (787, "messages passed behind a failed commit, which lay below a reader's cursor then"),
    (299, "a publisher that came back after the idempotency window was taken for a duplicate"),
];

#[test]
fn worlds_that_once_went_wrong_are_right() {
    for (seed, found) in SEEDS {
        let outcome =
            everywire_sim::run(seed).unwrap_or_else(|e| panic!("seed {seed}, which once found that {found}: {e}"));
        assert!(outcome.acknowledged > 0 && outcome.delivered > 0, "seed {seed} did nothing");
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    assert_eq!(everywire_sim::run(7), everywire_sim::run(7));
}
