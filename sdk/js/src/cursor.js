/** What the client knows of cursors and filters; applications needn't. */

/**
 * How far `a` lies behind `b` in the log; NaN if they can't be compared: other log, other form.
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
  const levels = topic.split('/');
  const parts = filter.split('/');
  if (/^[+#]/.test(filter) && /^(\$|user\/)/.test(topic)) return false;
  return parts.every((part, i) => part === '#' || (i < levels.length && (part === '+' || part === levels[i])))
    && (parts.at(-1) === '#' || parts.length === levels.length);
}
