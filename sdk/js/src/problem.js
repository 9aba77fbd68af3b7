/** A refusal of the server (RFC 9457), or a server that can't be reached (status 0). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} reason
   * @param {{ retryAfterMs?: number, topic?: string, isFinal?: boolean, expected?: number }} [more]
   */
  constructor(status, reason, { retryAfterMs, topic, isFinal = false, expected } = {}) {
    super(reason);
    this.name = 'Problem';
    this.status = status;
    this.reason = reason;
    /** @type {number | undefined} */
    this.retryAfterMs = retryAfterMs;
    /** @type {string | undefined} */
    this.topic = topic;
    /** Whether the server said not to come back. */
    this.isFinal = isFinal;
    /** Which number an ordered key should have had. @type {number | undefined} */
    this.expected = expected;
  }

  /** Whether the same may succeed later. */
  get isPassing() {
    const { status, isFinal } = this;
    return !isFinal && (status === 0 || status === 408 || status === 429 || status >= 500);
  }

  /** @param {Response} response */
  static async of(response) {
    const text = await response.text().catch(() => '');
    let [reason, expected] = [text.length < 300 && !text.startsWith('<') && text || response.statusText || `HTTP ${response.status}`, undefined];
    try {
      const problem = JSON.parse(text);
      reason = problem.detail ?? problem.title ?? reason;
      expected = problem.expected;
    } catch { /* Not problem+json: the answer of a proxy, say. */ }
    const seconds = parseFloat(response.headers.get('Retry-After') ?? '');
    return new Problem(response.status, reason, { retryAfterMs: seconds >= 0 ? seconds * 1000 : undefined, expected });
  }

  /** @param {unknown} error */
  static from(error) {
    return error instanceof Problem ? error : new Problem(0, error instanceof Error ? error.message : String(error));
  }
}
