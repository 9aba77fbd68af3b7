/**
 * `text/event-stream` (HTML Living Standard, 9.2.6), piece by piece.
 *
 * @typedef {object} StreamEvent
 * @property {string | null} id
 * @property {string} event
 * @property {string | null} data  `null` where only the id moves.
 */
export class EventStreamParser {
  #rest = '';
  /** @type {string[]} */
  #data = [];
  #event = '';
  /** @type {string | null} */
  #id = null;

  /**
   * Takes the next piece of text; gives the events that it completes.
   * @param {string} text
   */
  push(text) {
    // A CR at the very end may be half of a CR LF: it waits for what follows.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = /** @type {string} */ (lines.pop());
    /** @type {StreamEvent[]} */
    const events = [];
    for (const line of lines) {
      if (line) this.#field(line);
      else {
        if (this.#data[0] !== undefined || this.#id !== null) {
          events.push({ id: this.#id, event: this.#event, data: this.#data[0] === undefined ? null : this.#data.join('\n') });
        }
        [this.#data, this.#event, this.#id] = [[], '', null];
      }
    }
    return events;
  }

  /** @param {string} line */
  #field(line) {
    const [, field, value = ''] = /** @type {RegExpExecArray} */ (/^([^:]*)(?:: ?([^]*))?$/.exec(line));
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
  }
}
