/** Functions for cursors and filters; applications don't need them. */

/**
 * The distance from `b` to `a` in the log; NaN if they can't be compared, as cursors of different logs or forms.
 * @param {string | undefined} a
 * @param {string | undefined} b
 */
export function distance(a, b) {
  const [left, right] = [a, b].map((cursor) => /^(.+):(\d+)$/.exec(cursor ?? ''));
  return left && right && left[1] === right[1] ? Number(left[2]) - Number(right[2]) : NaN;
}

/**
 * Whether a filter takes a topic.
 * @param {string} filter
 * @param {string} topic
 */
export function takes(filter, topic) {
  const isOfUsers = topic.startsWith('user/');
  // Everything of one's own: the inbox and the rooms.
  if (filter === '$conversations') return isOfUsers || topic.startsWith('room/');
  if (/^[+#]/.test(filter) && (isOfUsers || topic[0] === '$')) return false;
  const levels = topic.split('/');
  const parts = filter.split('/');
  return parts.every((part, i) => part === '#' || part === levels[i] || (part === '+' && i < levels.length))
    && (parts.at(-1) === '#' || parts.length === levels.length);
}
