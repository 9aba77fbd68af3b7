/**
 * The wires. Each is a function that reads for its link's readers until it fails, and calls `link.live()` as soon as
 * something of substance came.
 *
 * @import { Reader } from './subscription.js'
 * @import { Link } from './links.js'
 */
import { distance } from './cursor.js';
import { addressOf } from './address.js';
import { Problem } from './problem.js';
import { EventStreamParser } from './sse.js';

/** How long a long poll hangs, in seconds; the first one less, since a wire has little time to prove itself. */
const [WAIT_S, FIRST_WAIT_S] = [20, 2];
/** How long a stream and a short answer may be silent: two heartbeats of 15 s. */
const [STREAM_MS, ANSWER_MS] = [32_000, 10_000];
/** As many frames may wait for a slow handler; beyond that the socket is closed, and reading goes on by cursor. */
const FRAMES_MOST = 5000;

/** @type {Record<string, (link: Link) => Promise<unknown>>} */
export const WIRES = {
  async poll(link) {
    for (;;) {
      const more = await turn(link, (readers) => page(link, readers, {}));
      if (more !== undefined) link.live();
      if (more === false) await link.pause(link.settings.pollMs);
    }
  },

  async longpoll(link) {
    for (;;) {
      await turn(link, async (readers) => {
        const wait = readers.some(({ at }) => !at) ? 0 : link.isLive ? WAIT_S : FIRST_WAIT_S;
        await page(link, readers, { wait });
        if (wait) link.live();
      });
    }
  },

  async sse(link) {
    for (;;) await turn(link, (readers) => stream(link, readers));
  },

  /** A socket; after a 401 another one with another token. */
  async ws(link) {
    for (;;) {
      const token = await link.tokens.get();
      try {
        await socket(link, token);
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 401 || !link.tokens.isRenewable || link.refused === token) throw error;
        link.refused = await link.tokens.another(token);
      }
    }
  },
};

/**
 * One request for all readers, begun anew when they change; before it those that stand elsewhere catch up by pages.
 * @template T
 * @param {Link} link
 * @param {(readers: Reader[]) => Promise<T>} ask
 */
async function turn(link, ask) {
  link.request = new AbortController();
  const { signal } = link.request;
  const readers = link.host.readers();
  try {
    const [first, ...others] = readers;
    // Together only from one place: a stream has one cursor.
    if (others.some(({ at }) => at !== first.at)) {
      for (const reader of readers) {
        while (await page(link, [reader], reader.at ? {} : { after: 'latest' }));
      }
    }
    return await ask(readers);
  } catch (error) {
    if (link.signal.aborted || !signal.aborted) throw error;
    return undefined;
  } finally {
    link.request.abort();
  }
}

/** The place from which all of them miss nothing. @param {Reader[]} readers */
const least = (readers) => readers.reduce((least, { at }) => (distance(at, least) < 0 ? at : least), readers[0].at);

/**
 * One poll; tells whether there is more.
 * @param {Link} link
 * @param {Reader[]} readers
 * @param {{ wait?: number, after?: string }} query
 */
async function page(link, readers, { wait = 0, after = least(readers) ?? 'latest' }) {
  const response = await link.read('v1/messages', readers, { after, wait: wait || undefined }, wait * 1000 + ANSWER_MS);
  const { messages = [], cursor = response.headers.get('Everywire-Cursor'), gap, more } = response.status === 200 ? await response.json() : {};
  link.heard();
  if (gap) link.host.gap({ topic: readers.flatMap(({ topics }) => topics).join(' '), after, earliest: messages[0]?.cursor ?? cursor });
  for (const message of messages) link.message(message, readers);
  for (const reader of readers) {
    reader.reach(cursor);
    reader.confirmed(cursor);
  }
  await link.room();
  return more === true;
}

/** @param {Link} link @param {Reader[]} readers */
async function stream(link, readers) {
  const response = await link.read('v1/events', readers, { after: least(readers) }, STREAM_MS);
  const parser = new EventStreamParser();
  const text = new TextDecoder();
  const body = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  for (let part = await body.read(); !part.done; part = await body.read()) {
    link.heard();
    for (const { id, event, data } of parser.push(text.decode(part.value, { stream: true }))) {
      const content = data === null ? null : JSON.parse(data);
      // Applications may name their events like the server's; but only a message has an id.
      if (content?.id) link.message(content, readers);
      else if (event === 'gap') link.host.gap(content);
      else if (event === 'close') throw ended(content);
      for (const reader of readers) {
        if (id) reader.reach(id);
        reader.confirmed();
      }
    }
    link.live();
    await link.room();
  }
  throw new Problem(0, 'the stream ended');
}

/** @param {{ code?: number, reason: string, detail?: string, reconnect: boolean, delay_ms?: number }} close */
function ended({ code = 403, reason, detail, reconnect, delay_ms }) {
  const text = `the server ended it: ${reason}${detail ? ` (${detail})` : ''}`;
  if (reason === 'expired' || reason === 'unauthorized') return new Problem(401, text);
  return new Problem(reconnect ? 503 : code, text, { retryAfterMs: delay_ms, isFinal: !reconnect });
}

/** @param {Link} link @param {string | undefined} token */
async function socket(link, token) {
  const { settings, signal } = link;
  const address = addressOf(settings, 'v1/ws');
  address.protocol = address.protocol.replace('http', 'ws');
  const socket = new settings.WebSocket(address.href);
  /** @type {string[]} */
  const frames = [];
  /** @type {Map<number, Reader>} */
  const asked = new Map();
  let [id, isEntering, isOver] = [0, false, false];
  let wake = () => {};

  /** @param {object} frame */
  const send = (frame) => socket.readyState === 1 && socket.send(JSON.stringify(frame));
  const enter = () => { isEntering = true; send({ hello: { token, device: settings.device } }); };
  const mine = () => link.host.readers().filter((reader) => reader.link === link);
  const subscribe = () => {
    if (isEntering) return;
    for (const reader of link.host.readers()) {
      if (reader.link === link || [...asked.values()].includes(reader)) continue;
      asked.set(++id, reader);
      send({ subscribe: { id, topics: reader.topics, after: reader.at } });
    }
  };
  /** @param {Reader} gone */
  link.left = (gone) => {
    const others = new Set(link.host.readers().flatMap(({ topics }) => topics));
    const topics = gone.topics.filter((topic) => !others.has(topic));
    if (topics[0]) send({ unsubscribe: { id: ++id, topics } });
  };
  link.changed = subscribe;
  link.ping = () => send({ ping: {} });
  link.renew = async () => { token = await link.tokens.get(); enter(); };

  /** @type {Record<string, (frame: any) => unknown>} */
  const frame = {
    async message(message) {
      link.message(message, mine());
      await link.room();
    },
    welcome({ user, heartbeat }) {
      isEntering = false;
      if (heartbeat) link.heartbeatMs = heartbeat * 1000;
      link.host.entered(user);
      subscribe();
    },
    subscribed({ id, cursor }) {
      const reader = asked.get(id);
      if (!reader) return;
      asked.delete(id);
      reader.link = link;
      reader.confirmed(cursor);
      link.refused = undefined;
      link.live();
    },
    gap: (gap) => link.host.gap(gap),
    close: (close) => { throw ended(close); },
    ping: () => send({ pong: {} }),
    error({ id, code, reason, topic, retry_after_ms }) {
      const problem = new Problem(code, reason, { topic, retryAfterMs: retry_after_ms });
      const reader = asked.get(id);
      if (reader && !problem.isPassing && code !== 401) {
        asked.delete(id);
        return reader.refuse(problem);
      }
      if (reader || isEntering) throw problem;
      link.host.problem(problem);
    },
  };

  socket.onopen = () => (token || settings.device ? enter() : subscribe());
  socket.onmessage = (/** @type {{ data: string }} */ { data }) => {
    link.heard();
    frames.push(data);
    if (frames.length > FRAMES_MOST) socket.close();
    wake();
  };
  socket.onclose = socket.onerror = () => { isOver = true; wake(); };
  const stop = () => { socket.close(); isOver = true; wake(); };
  signal.addEventListener('abort', stop);
  try {
    for (;;) {
      const text = frames.shift();
      if (text !== undefined) {
        const [[name, content]] = Object.entries(JSON.parse(text));
        await frame[name]?.(content);
      } else if (isOver) throw new Problem(0, 'the WebSocket was cut');
      else await new Promise((resolve) => { wake = () => resolve(0); });
      if (signal.aborted) throw signal.reason;
    }
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}
