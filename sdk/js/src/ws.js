/**
 * WebSocket, the wire that is tried first: one socket, on which each reader has its subscription.
 *
 * @import { Reader } from './subscription.js'
 * @import { Link } from './link.js'
 */
import { addressOf } from './address.js';
import { Problem } from './shared.js';

/** The most frames that may wait for a slow handler; beyond that the socket is closed, and reading goes on by cursor. */
const FRAMES_MOST = 5000;

/** Reads until it fails; after a 401 once more with another token. @param {Link} link */
export async function ws(link) {
  const { links } = link;
  if (links.settings.session) links.session ??= new (await import('./session.js')).Session();
  for (;;) {
    const token = await links.token();
    const problem = await socket(link, token).catch(Problem.from);
    if (problem.status !== 401 || link.refused === token) throw problem;
    link.refused = await links.token(token);
    if (link.refused === token) throw problem;
  }
}

/** Reads until it fails. @param {Link} link @param {string | undefined} token @returns {Promise<never>} */
async function socket(link, token) {
  const { settings, host, session } = link.links;
  const address = addressOf(settings, 'v1/ws');
  address.protocol = address.protocol.replace('http', 'ws');
  const socket = new settings.WebSocket(address.href);
  /** @type {Map<number, Reader>} */
  const asked = new Map();
  let [id, waiting, isEntering] = [0, 0, false];

  /** @param {object} frame */
  const send = (frame) => socket.readyState === 1 && socket.send(JSON.stringify(frame));
  const enter = () => { isEntering = true; send({ hello: { token, device: settings.device, session: session?.wish } }); };
  const subscribe = () => {
    if (isEntering) return;
    for (const reader of link.readers) {
      if (reader.link === link || [...asked.values()].includes(reader)) continue;
      asked.set(++id, reader);
      send({ subscribe: { id, topics: reader.topics, after: reader.at } });
    }
  };
  /** @param {Reader} gone */
  link.left = (gone) => {
    const others = new Set(link.readers.flatMap(({ topics }) => topics));
    const topics = gone.topics.filter((topic) => !others.has(topic));
    if (topics[0]) send({ unsubscribe: { id: ++id, topics } });
  };
  link.ping = () => send({ ping: {} });
  link.renew = async () => { token = await link.links.token(); enter(); };

  /** @type {Record<string, (frame: any) => unknown>} */
  const frame = {
    message: (message) => link.take([message], link.readers.filter((reader) => reader.link === link)),
    welcome({ user, heartbeat }) {
      isEntering = false;
      if (heartbeat) link.silenceMs = heartbeat * 1000;
      link.links.user = user;
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
    close: (close) => { throw Problem.ended(close); },
    ping: () => send({ pong: {} }),
    error({ id, code, reason, topic, retry_after_ms }) {
      const problem = new Problem(code, reason, { topic, retryAfterMs: retry_after_ms });
      const reader = asked.get(id);
      if (reader && !problem.isPassing && code !== 401) {
        asked.delete(id);
        return reader.refuse(problem);
      }
      if (reader || isEntering) throw problem;
      host.problem(problem);
    },
  };

  link.send = send;
  session?.extend(link, frame, send);

  try {
    return await new Promise((_, reject) => {
      /** Frames are handled one after the other, up to the first that fails. */
      let handled = Promise.resolve();
      socket.onopen = () => {
        // What is sent before is lost.
        link.changed = subscribe;
        (token || settings.device || session ? enter : subscribe)();
      };
      socket.onmessage = (/** @type {{ data: string }} */ { data }) => {
        link.heard();
        if (++waiting > FRAMES_MOST) socket.close();
        handled = handled.then(async () => {
          link.signal.throwIfAborted();
          const [[name, content]] = Object.entries(JSON.parse(data));
          await (frame[name] ? frame[name](content) : host.event(name, content));
          waiting -= 1;
        });
        handled.catch(reject);
      };
      socket.onclose = socket.onerror = () => handled.then(() => reject(new Problem(0, 'the WebSocket was cut')), reject);
      link.signal.addEventListener('abort', () => reject(link.signal.reason));
    });
  } finally {
    socket.close();
  }
}
