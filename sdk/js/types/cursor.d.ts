/** Functions for cursors and filters; applications don't need them. */
/**
 * The distance from `b` to `a` in the log; NaN if they can't be compared, as cursors of different logs or forms.
 * @param {string | undefined} a
 * @param {string | undefined} b
 */
export function distance(a: string | undefined, b: string | undefined): number;
/**
 * Whether a filter takes a topic.
 * @param {string} filter
 * @param {string} topic
 */
export function takes(filter: string, topic: string): boolean;
