/**
 * MQTT 5.0's packets, as far as a reader needs them: it logs in and subscribes once, reads at most once, and sends pings.
 * It comes back by its cursor like all readers here (docs/mqtt.md, "Across wires").
 */

/** The longest silence of the reader, in seconds. */
export const KEEP_ALIVE_S = 25;
/** PINGREQ. */
export const PING = Uint8Array.of(0xc0, 0);

const [CONNACK, PUBLISH, SUBACK, DISCONNECT] = [2, 3, 9, 14];
const encoder = new TextEncoder();
const strict = new TextDecoder('utf-8', { fatal: true });

/** @param {number} number */
const two = (number) => [number >> 8, number & 0xff];
/** @param {string} string */
const text = (string) => { const bytes = encoder.encode(string); return [...two(bytes.length), ...bytes]; };
/** A variable byte integer (MQTT-5.0 §1.5.5). @param {number} number @returns {number[]} */
const variable = (number) => (number < 128 ? [number] : [(number & 127) | 128, ...variable(number >> 7)]);
/** @param {number} first @param {number[]} body */
const packet = (first, body) => [first, ...variable(body.length), ...body];

/** A user property (§3.1.2.11.8). @param {string} name @param {string} value */
const pair = (name, value) => [0x26, ...text(name), ...text(value)];

/**
 * CONNECT with a clean start, which asks for cursors, and a token as the password; SUBSCRIBE at QoS 0.
 * @param {{ token?: string, topics: string[], after: string }} options
 */
export function hello({ token, topics, after }) {
  const asks = pair('everywire-properties', '1');
  const connect = [
    ...text('MQTT'), 5, token ? 0x42 : 0x02, ...two(KEEP_ALIVE_S), ...variable(asks.length), ...asks,
    ...text(''), ...(token ? text(token) : []),
  ];
  const start = after === 'latest' ? [] : pair('everywire-after', after);
  const filters = topics.flatMap((topic) => [...text(topic), 0]);
  const subscribe = [...two(1), ...variable(start.length), ...start, ...filters];
  return Uint8Array.from([...packet(0x10, connect), ...packet(0x82, subscribe)]);
}

/** The body of a packet, which is read field by field. */
class Fields {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  get isAtEnd() { return this.at >= this.bytes.length; }
  /** @param {number} count */
  take(count) { this.at += count; return this.bytes.subarray(this.at - count, this.at); }
  one() { return this.take(1)[0]; }
  two() { this.at += 2; return this.view.getUint16(this.at - 2); }
  text() { return strict.decode(this.take(this.two())); }

  variable() {
    for (let [value, shift] = [0, 0]; ; shift += 7) {
      const byte = this.one();
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  }

  /** Properties (§2.2.2): the user's, and those that are named here; others are passed over. */
  properties() {
    /** @type {{ user: Record<string, string>, type?: string, reason?: string }} */
    const found = { user: {} };
    const end = this.variable() + this.at;
    while (this.at < end) {
      const id = this.variable();
      if (id === 0x26) found.user[this.text()] = this.text();
      else if (id === 0x03) found.type = this.text();
      else if (id === 0x1f) found.reason = this.text();
      else if ([0x08, 0x09, 0x12, 0x15, 0x16, 0x1a, 0x1c].includes(id)) this.take(this.two());
      else if (id === 0x0b) this.variable();
      else this.take([0x02, 0x11, 0x18, 0x27].includes(id) ? 4 : [0x13, 0x21, 0x22, 0x23].includes(id) ? 2 : 1);
    }
    return found;
  }
}

/** Takes the bytes of WebSocket messages, which are cut anywhere; gives the server's packets. */
export class PacketParser {
  #rest = new Uint8Array();

  /** @param {Uint8Array} bytes */
  push(bytes) {
    const all = new Uint8Array(this.#rest.length + bytes.length);
    all.set(this.#rest);
    all.set(bytes, this.#rest.length);
    const said = [];
    let at = 0;
    for (let whole = frame(all, at); whole; whole = frame(all, at)) {
      said.push(read(all[at], new Fields(all.subarray(whole.begin, whole.end))));
      at = whole.end;
    }
    this.#rest = all.slice(at);
    return said.filter(Boolean);
  }
}

/** The begin and the end of the body of the packet at `at`, if it is there. @param {Uint8Array} bytes @param {number} at */
function frame(bytes, at) {
  for (let [length, shift, begin] = [0, 0, at + 1]; begin < bytes.length && shift < 28; shift += 7) {
    length |= (bytes[begin] & 127) << shift;
    begin += 1;
    if (bytes[begin - 1] < 128) return begin + length <= bytes.length ? { begin, end: begin + length } : null;
  }
  return null;
}

/** `{refused}`, `{cursor}` where the subscription begins, `{closed}` or `{message}`. @param {number} first @param {Fields} fields */
function read(first, fields) {
  switch (first >> 4) {
    case CONNACK: {
      fields.one();
      return refused(fields.one(), fields.properties());
    }
    case SUBACK: {
      fields.two();
      const properties = fields.properties();
      const codes = fields.bytes.subarray(fields.at);
      return refused(Math.max(...codes), properties) ?? { cursor: properties.user['everywire-cursor'] };
    }
    case DISCONNECT: {
      const code = fields.isAtEnd ? 0 : fields.one();
      return { closed: code, reason: fields.isAtEnd ? undefined : fields.properties().reason };
    }
    case PUBLISH:
      return { message: envelope(first, fields) };
    default:
      return null;
  }
}

/** @param {number} code @param {{ reason?: string }} properties */
const refused = (code, { reason }) => (code < 0x80 ? null : { refused: code, reason });

/** The envelope that all wires have. @param {number} first @param {Fields} fields */
function envelope(first, fields) {
  const topic = fields.text();
  if (first & 6) fields.two();
  const { type, user } = fields.properties();
  const [id, cursor, from, event] = ['id', 'cursor', 'from', 'event'].map((name) => user[`everywire-${name}`]);
  const body = content(fields.bytes.subarray(fields.at), type);
  return { id, topic, cursor, time: timeOf(id), from, event, type, ...body, retained: Boolean(first & 1) };
}

/** @param {Uint8Array} bytes @param {string | undefined} type */
function content(bytes, type) {
  try {
    const body = strict.decode(bytes);
    return { body: /^application\/(.+\+)?json\b/.test(type ?? '') ? JSON.parse(body) : body };
  } catch {
    return { bytes: bytes.slice() };
  }
}

/** The first ten characters of an id are the milliseconds since 1970 in Crockford's Base32. */
function timeOf(id = '') {
  const digits = [...id.slice(0, 10)].map((letter) => '0123456789ABCDEFGHJKMNPQRSTVWXYZ'.indexOf(letter));
  return new Date(digits.reduce((sum, digit) => sum * 32 + digit, 0)).toISOString();
}
