/** A reader over MQTT: like the client's other wires it comes back by its cursor. */

import { distance } from './sdk/cursor.js';
import { KEEP_ALIVE_S, PING, PacketParser, hello } from './mqtt.js';

/** Reason codes after which it comes again, and ends after which it doesn't (MQTT-5.0 §2.4). */
const [PASSING, FINAL] = [[0x88, 0x89, 0x97], [0x87, 0x8e, 0x98]];
const RETRY_MS = [250, 10_000];

export class MqttReader {
  /** @type {string | undefined} */
  cursor;
  /** @type {(message: import('./sdk/types.js').Message<any>) => void} */
  onmessage = () => {};
  /** @type {(shown: { state: string, reason?: string }) => void} */
  onstate = () => {};
  /** @type {any} */
  #socket;
  #isClosed = false;
  #failures = 0;
  /** @type {any} */
  #beating;
  #options;

  /** @param {{ base: URL, token?: string, label?: string, WebSocket?: any, topics: string[], after?: string }} options */
  constructor(options) {
    this.#options = options;
    this.cursor = options.after;
  }

  start() {
    if (this.#isClosed) return;
    const { base, token, label, topics, WebSocket = globalThis.WebSocket } = this.#options;
    const address = new URL('mqtt', base);
    address.protocol = address.protocol.replace('http', 'ws');
    if (label) address.searchParams.set('label', label);
    this.onstate({ state: 'connecting' });
    const socket = new WebSocket(address.href, ['mqtt']);
    const parser = new PacketParser();
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    socket.onopen = () => {
      socket.send(hello({ token, topics, after: this.cursor ?? 'latest' }));
      this.#beating = setInterval(() => socket.send(PING), KEEP_ALIVE_S * 1000);
    };
    socket.onmessage = (/** @type {{ data: ArrayBuffer }} */ { data }) => {
      for (const said of parser.push(new Uint8Array(data))) this.#take(said);
    };
    socket.onclose = () => this.#again('the WebSocket was cut');
  }

  /** @param {any} said */
  #take({ refused, closed, reason, cursor, message }) {
    if (refused !== undefined) return this.#end(PASSING.includes(refused), reason ?? `not authorized (0x${refused.toString(16)})`);
    if (closed !== undefined) return this.#end(!FINAL.includes(closed), `the server ended it: ${reason ?? `0x${closed.toString(16)}`}`);
    if (cursor) {
      this.cursor ??= cursor;
      this.#failures = 0;
      this.onstate({ state: 'open' });
    }
    if (!message || (!message.retained && distance(message.cursor, this.cursor) <= 0)) return;
    if (!message.retained) this.cursor = message.cursor;
    this.onmessage(message);
  }

  /** @param {boolean} isPassing @param {string} reason */
  #end(isPassing, reason) {
    if (isPassing) return this.#again(reason);
    this.close();
    this.onstate({ state: 'refused', reason });
  }

  /** @param {string} reason */
  #again(reason) {
    clearInterval(this.#beating);
    if (this.#isClosed) return;
    this.#drop();
    const [first, most] = RETRY_MS;
    const ms = Math.min(first * 2 ** this.#failures++, most) * (0.5 + Math.random() / 2);
    this.onstate({ state: 'waiting', reason });
    setTimeout(() => this.start(), ms);
  }

  #drop() {
    clearInterval(this.#beating);
    const socket = this.#socket;
    this.#socket = undefined;
    if (!socket) return;
    socket.onclose = socket.onmessage = null;
    socket.close();
  }

  close() {
    this.#isClosed = true;
    this.#drop();
  }
}
