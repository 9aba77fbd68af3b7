/**
 * One try of one wire.
 *
 * @import { Links } from './links.js'
 * @import { Message, Wire } from './types.js'
 * @import { Reader } from './subscription.js'
 */
import { distance } from './cursor.js';
import { Problem, bytes } from './shared.js';

/** The number of messages that wait for a handler when a wire stops reading. */
const WAITING_MOST = 256;

/** @typedef {Message<any> & { body_base64?: string }} Envelope */

/** A message as applications get it. @param {Envelope} envelope @returns {Message<any>} */
export const unpacked = ({ body_base64, ...message }) => (body_base64 === undefined ? message : { ...message, bytes: bytes(body_base64) });

export class Link {
  isLive = false;
  /** The request under way, begun anew when the readers change. */
  request = new AbortController();
  /** The longest silence. */
  silenceMs = 25_000;
  /** The longest silence after a ping that isn't answered yet. */
  pingMs = 0;
  /** The token in place of one that was refused. @type {string | undefined} */
  refused;
  /** The question to ask if it is silent. @type {(() => void) | undefined} */
  ping;
  /** The token has a fresh successor. @type {() => unknown} */
  renew = () => this.changed();
  /** Sends a frame, on wires that have them. @type {((frame: object) => unknown) | undefined} */
  send;
  /** A reader is gone. @type {(reader: Reader) => void} */
  left = () => this.changed();
  #abort = new AbortController();
  signal = this.#abort.signal;

  /** @param {Links} links @param {Wire} wire */
  constructor(links, wire) {
    const { probeMs, now } = links.settings;
    this.links = links;
    this.wire = wire;
    this.heardAt = now();
    this.probe = setTimeout(() => this.end(new Problem(0, `nothing came within ${probeMs} ms`)), probeMs);
  }

  get readers() {
    return [...this.links.readers];
  }

  /** The earliest place of the readers: from there none misses anything. @param {Reader[]} readers */
  place(readers) {
    return readers.reduce((least, { at }) => (distance(at, least) < 0 ? at : least), readers[0].at);
  }

  /** The readers have changed. */
  changed() {
    this.request.abort();
  }

  /** @param {Problem} problem */
  end(problem) {
    clearTimeout(this.probe);
    this.#abort.abort(problem);
    this.request.abort();
  }

  live() {
    if (this.isLive || this.signal.aborted) return;
    this.isLive = true;
    clearTimeout(this.probe);
    this.links.proved(this);
  }

  heard() {
    this.heardAt = this.links.settings.now();
    this.pingMs = 0;
  }

  /** Ends a link on which nothing comes any more. @param {number} time @param {boolean} hasJumped  The clock, as after sleep. */
  check(time, hasJumped) {
    const silentMs = time - this.heardAt;
    const isSilent = silentMs > (this.pingMs || this.silenceMs);
    if (silentMs < 0) this.heardAt = time;
    if (this.ping && !this.pingMs && (isSilent || hasJumped)) {
      this.ping();
      this.heardAt = time;
      this.pingMs = hasJumped ? this.links.settings.probeMs : this.silenceMs;
    } else if (isSilent) this.end(new Problem(0, 'nothing comes any more'));
  }

  /**
   * Hands messages on, then waits for slow handlers.
   * @param {Envelope[]} messages @param {Reader[]} readers
   * @param {string | null} [cursor]  Nothing was missed up to here.
   */
  async take(messages, readers, cursor) {
    for (const message of messages.map(unpacked)) {
      for (const reader of readers) reader.offer(message);
    }
    for (const reader of readers) {
      reader.reach(cursor);
      reader.confirmed();
    }
    const { silenceMs } = this;
    this.silenceMs = Infinity;
    for (const reader of this.readers) {
      if (reader.waiting > WAITING_MOST) await reader.drained();
    }
    this.silenceMs = silenceMs;
    this.heard();
  }
}
