/** @import { TokenSource } from './types.js' */

/** The token: one question at a time, again before it ends. */
export class Token {
  /** @type {string | undefined} */
  #token;
  /** @type {Promise<string | undefined> | undefined} */
  #asked;
  #renewAt = Infinity;
  #source;
  #now;

  /**
   * @param {string | TokenSource | undefined} source
   * @param {() => number} now
   */
  constructor(source, now) {
    this.#source = source;
    this.#now = now;
    if (typeof source === 'string') this.#token = source;
  }

  get isRenewable() {
    return typeof this.#source === 'function';
  }

  get isExpiring() {
    return this.#now() >= this.#renewAt;
  }

  /** The user that the token is for, if it can be read. */
  get user() {
    return this.#token && claims(this.#token).sub;
  }

  /** The present token. */
  async get() {
    if (!this.isRenewable) return this.#token;
    if (this.#token && !this.isExpiring) return this.#token;
    return this.#ask(this.#token ? 'expiring' : 'start');
  }

  /**
   * Another token than one that was refused.
   * @param {string | undefined} refused
   */
  async another(refused) {
    return refused === this.#token ? this.#ask('refused') : this.#token;
  }

  /** @param {'start' | 'expiring' | 'refused'} why */
  #ask(why) {
    this.#asked ??= /** @type {TokenSource} */ (this.#source)(why).then((token) => {
      this.#token = token;
      // The life is counted from here, so that a wrong clock doesn't end it.
      const { exp, iat = this.#now() / 1000 } = claims(token);
      this.#renewAt = exp > iat ? this.#now() + (exp - iat) * 900 : Infinity;
      return token;
    }).finally(() => { this.#asked = undefined; });
    return this.#asked;
  }
}

/**
 * What a JWT says; nothing is proved by it.
 * @param {string} token
 * @returns {any}
 */
function claims(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    return {};
  }
}
