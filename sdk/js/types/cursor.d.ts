/** What the client knows of cursors and filters; applications needn't. */
/**
 * How far `a` lies behind `b` in the log; NaN if they can't be compared: other log, other form.
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
