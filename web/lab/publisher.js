/** Publishes at a rate. Each message holds the time by this page's clock, so that no other clock takes part. */

import { ask } from '../shared.js';

const TURN_MS = 50;
export class Publisher {
  #due = 0;
  #last = performance.now();
  #n = 0;
  /** One request at a time: several would overtake each other. */
  #isFlying = false;
  #run = crypto.randomUUID().slice(0, 8);
  rate = 1;
  size = 100;
  isPaused = false;

  /** @param {string} topic @param {(reason: unknown) => void} told */
  constructor(topic, told) {
    this.topic = topic;
    this.told = told;
    setInterval(() => this.#turn(), TURN_MS);
  }

  #turn() {
    const now = performance.now();
    // Messages missed in a pause of the page are not made up for.
    this.#due = Math.min(this.#due + (this.rate * Math.min(now - this.#last, 1000)) / 1000, Math.max(1, this.rate));
    this.#last = now;
    if (this.isPaused || document.hidden || this.#due < 1 || this.#isFlying) return;
    const messages = [];
    for (; this.#due >= 1; this.#due -= 1) messages.push({ topic: this.topic, body: this.#body(now), ttl: 120 });
    this.#send(messages);
  }

  /** @param {number} at */
  #body(at) {
    const body = { run: this.#run, n: this.#n++, at: Math.round(at * 10) / 10, pad: '' };
    const bare = JSON.stringify(body).length;
    return { ...body, pad: '.'.repeat(Math.max(0, this.size - bare)) };
  }

  /** @param {object[]} messages */
  async #send(messages) {
    this.#isFlying = true;
    try {
      const results = await (await ask('v1/batch', { method: 'POST', body: JSON.stringify({ messages }) })).json();
      const bad = results.find((/** @type {any} */ { status }) => status !== 200);
      this.told(bad ? bad.detail ?? bad.title : null);
    } catch (error) {
      this.told(error instanceof Error ? error.message : error);
    }
    this.#isFlying = false;
  }
}
