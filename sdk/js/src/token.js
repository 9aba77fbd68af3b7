/**
 * A token that a function gives: one question at a time, again before it ends. Loaded for clients that have such a function.
 *
 * @import { TokenSource } from './types.js'
 */
import { claims } from './claims.js';

export class Token {
  /** @type {string | undefined} */
  #token;
  /** @type {Promise<string> | undefined} */
  #asked;
  #renewAt = Infinity;
  #source;
  #now;

  /** @param {TokenSource} source @param {() => number} now */
  constructor(source, now) {
    this.#source = source;
    this.#now = now;
  }

  get isExpiring() {
    return this.#now() >= this.#renewAt;
  }

  /** The present token. */
  async get() {
    if (this.#token && !this.isExpiring) return this.#token;
    return this.#ask(this.#token ? 'expiring' : 'start');
  }

  /** Another token than one that was refused. @param {string | undefined} refused */
  async another(refused) {
    return refused === this.#token ? this.#ask('refused') : this.#token;
  }

  /** @param {'start' | 'expiring' | 'refused'} why */
  #ask(why) {
    this.#asked ??= this.#source(why).then((token) => {
      this.#token = token;
      // The life is counted from here, so that a wrong clock doesn't end it.
      const { exp, iat = this.#now() / 1000 } = claims(token);
      this.#renewAt = exp > iat ? this.#now() + (exp - iat) * 900 : Infinity;
      return token;
    }).finally(() => { this.#asked = undefined; });
    return this.#asked;
  }
}
