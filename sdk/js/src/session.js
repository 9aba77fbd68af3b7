/**
 * A session on the server, for clients that ask for one. Messages over WebSocket come again until they were handled here,
 * also after cuts and restarts of the server, and the server knows that they were. Loaded with the first socket.
 *
 * @import { Link } from './link.js'
 * @import { Reader } from './subscription.js'
 */
import { distance } from './cursor.js';

/** The time, and the number of messages, for which acknowledgements wait. */
const [ACK_MS, ACK_MOST] = [100, 256];

export class Session {
  /** The session that `hello` asks for; undefined when the token is renewed. @type {string | undefined} */
  wish;
  #id = 'new';
  /** The readers whose topics the session has already. @type {Set<Reader>} */
  #readers = new Set();

  /**
   * Adds the session to the frames of a socket.
   * @param {Link} link @param {Record<string, (frame: any) => unknown>} frame @param {(frame: object) => unknown} send
   */
  extend(link, frame, send) {
    const { welcome, subscribed, message } = frame;
    /** Cursors that the server waits for. @type {string[]} */
    const sent = [];
    const acknowledge = () => {
      let cursor;
      while (sent[0] && link.readers.every((reader) => reader.waiting === 0 || distance(sent[0], reader.cursor) <= 0)) cursor = sent.shift();
      if (cursor) send({ ack: { cursor } });
    };
    const timer = setInterval(acknowledge, ACK_MS);
    link.signal.addEventListener('abort', () => {
      clearInterval(timer);
      acknowledge();
    });
    this.wish = this.#id;

    frame.welcome = (said) => {
      if (this.wish) this.#begun(link, said, send);
      this.wish = undefined;
      return welcome(said);
    };
    frame.subscribed = async (said) => {
      await subscribed(said);
      for (const reader of link.readers) if (reader.link === link) this.#readers.add(reader);
    };
    frame.message = async (envelope) => {
      if (!envelope.retained) sent.push(envelope.cursor);
      await message(envelope);
      if (sent.length > ACK_MOST) acknowledge();
    };
  }

  /** @param {Link} link @param {{ session?: string, resumed: boolean }} said @param {(frame: object) => unknown} send */
  #begun(link, { session = 'new', resumed }, send) {
    this.#id = session;
    if (!resumed) this.#readers.clear();
    const wanted = new Set(link.readers.flatMap(({ topics }) => topics));
    for (const reader of this.#readers) {
      if (reader.isClosed) {
        this.#readers.delete(reader);
        const topics = reader.topics.filter((topic) => !wanted.has(topic));
        if (topics[0]) send({ unsubscribe: { id: 0, topics } });
      } else {
        reader.link = link;
        reader.confirmed();
        link.live();
      }
    }
  }
}
