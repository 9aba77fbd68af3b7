/** The code that all parts of the client share. It is one module, so that bundlers make one file of it. */

/** A refusal of the server (RFC 9457), or a server that can't be reached (status 0). */
export class Problem extends Error {
  /** @type {number | undefined} */
  retryAfterMs;
  /** @type {string | undefined} */
  topic;
  /** Whether the server said not to come back. */
  isFinal = false;
  /** The number that an ordered key should have had. @type {number | undefined} */
  expected;

  /**
   * @param {number} status
   * @param {string} reason
   * @param {{ retryAfterMs?: number, topic?: string, isFinal?: boolean, expected?: number }} [more]
   */
  constructor(status, reason, more) {
    super(reason);
    this.name = 'Problem';
    this.status = status;
    this.reason = reason;
    Object.assign(this, more);
  }

  /** Whether the same call may succeed later. */
  get isPassing() {
    const { status, isFinal } = this;
    return !isFinal && (status === 0 || status === 408 || status === 429 || status >= 500);
  }

  /** @param {Response} response */
  static async of(response) {
    // An answer that is cut off may come whole the next time.
    const text = await response.text().catch((error) => { throw Problem.from(error); });
    let reason = text.length < 300 && !text.startsWith('<') && text || response.statusText || `HTTP ${response.status}`;
    let expected;
    try {
      const problem = JSON.parse(text);
      reason = problem.detail ?? problem.title ?? reason;
      expected = problem.expected;
    } catch { /* Not problem+json: the answer of a proxy, say. */ }
    const seconds = parseFloat(response.headers.get('Retry-After') ?? '');
    return new Problem(response.status, reason, { retryAfterMs: seconds >= 0 ? seconds * 1000 : undefined, expected });
  }

  /** The server's word that it ends a connection. @param {{ code?: number, reason: string, detail?: string, reconnect: boolean, delay_ms?: number }} close */
  static ended({ code = 403, reason, detail, reconnect, delay_ms }) {
    const text = `the server ended it: ${reason}${detail ? ` (${detail})` : ''}`;
    if (reason === 'expired' || reason === 'unauthorized') return new Problem(401, text);
    return new Problem(reconnect ? 503 : code, text, { retryAfterMs: delay_ms, isFinal: !reconnect });
  }

  /** @param {unknown} error */
  static from(error) {
    return error instanceof Problem ? error : new Problem(0, error instanceof Error ? error.message : String(error));
  }
}

/**
 * The pause before trying again: it doubles, and half of it is random, so that many don't come back at once.
 * @param {number} failures @param {[first: number, most: number]} bounds
 */
export const backoff = (failures, [first, most]) => Math.min(first * 2 ** failures, most) * (0.5 + Math.random() / 2);

/** The bytes that Base64 stands for. @param {string} base64 */
export const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
