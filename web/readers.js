/** One reader per wire: the client held to that wire, or MQTT. Each keeps its cursor over a stop. */

import { connect, base, token, reasonOf } from './shared.js';
import { MqttReader } from './mqttreader.js';
import { signal } from './vendor/ui.js';

export const WIRES = /** @type {const} */ (['poll', 'longpoll', 'sse', 'ws', 'mqtt']);
/** @typedef {typeof WIRES[number]} WireName */
/** @typedef {{ state: string, reason?: string }} Shown */

export class WireReader {
  /** @type {import('./sdk/client.js').Everywire | MqttReader | undefined} */
  #client;
  /** @type {{ readonly cursor: string | undefined } | undefined} */
  #subscription;
  /** @type {string | undefined} */
  #cursor;
  state = signal(/** @type {Shown} */ ({ state: 'idle' }));

  /**
   * @param {WireName} wire
   * @param {string[]} topics
   * @param {(message: import('./sdk/types.js').Message<any>) => void} take
   * @param {import('./sdk/types.js').Options} [options]
   */
  constructor(wire, topics, take, options = {}) {
    this.wire = wire;
    this.topics = topics;
    this.take = take;
    this.options = options;
  }

  get isRunning() {
    return this.#client !== undefined;
  }

  start() {
    if (this.#client) return;
    const { wire } = this;
    const after = this.#cursor;
    if (wire === 'mqtt') {
      const { label, WebSocket } = this.options;
      const reader = new MqttReader({ base, token: token.value, label, WebSocket, topics: this.topics, after });
      reader.onmessage = this.take;
      reader.onstate = (shown) => { this.state.value = shown; };
      [this.#client, this.#subscription] = [reader, reader];
      reader.start();
      return;
    }
    const client = connect({ outbox: false, cursors: false, ...this.options, wires: [wire] });
    client.on('state', ({ state, reason }) => { this.state.value = { state, reason }; });
    client.on('problem', (problem) => {
      if (problem.isFinal || !problem.isPassing) this.state.value = { state: 'refused', reason: reasonOf(problem) };
    });
    this.#client = client;
    this.#subscription = client.subscribe(this.topics, this.take, { after });
  }

  stop() {
    this.#cursor = this.#subscription?.cursor ?? this.#cursor;
    this.#client?.close();
    this.#client = this.#subscription = undefined;
  }

  /** With the present token. */
  restart() {
    this.stop();
    this.start();
  }
}

/**
 * A hidden window lets its connections go and catches up by its cursors when it is looked at again: browsers allow six
 * connections to a server over all windows, and waiting ones would starve the rest.
 * @param {() => WireReader[]} readers
 */
export function restWhenHidden(readers) {
  /** @type {WireReader[]} */
  let resting = [];
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) {
      resting = readers().filter(({ isRunning }) => isRunning);
      for (const reader of resting) reader.stop();
    } else for (const reader of resting.splice(0)) reader.start();
  });
}
