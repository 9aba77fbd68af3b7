/**
 * One conversation as this window has it: its lines, the texts that wait to be sent, the read mark. It knows no page: time and
 * the client come from outside.
 */

import { distance } from '../sdk/cursor.js';
import { lasting, textOf } from '../shared.js';
import { batch, computed, signal } from '../vendor/ui.js';

/** The most lines that are kept in memory; older ones are asked for again. */
const LINES_MOST = 5000;
const PAGE = 50;
/** The most pages at once, and the number of lines that is enough, when an inbox is searched for this exchange. */
const [PAGES_MOST, ENOUGH] = [5, 10];
/** The time within which messages are shown together: many messages a second are few changes of the page. */
const FLUSH_MS = 60;
const TYPING_MS = 5000;
/** The most pages that are looked through for one line. */
const SEEK_MOST = 40;

/**
 * @typedef {object} Line  A line of the conversation; it is never changed, only replaced.
 * @property {string} id
 * @property {string} cursor
 * @property {number} at
 * @property {string} from
 * @property {string} text
 * @property {string} kind  `chat` or `subject`.
 * @property {string} ref  The id of the line that it answers.
 * @property {boolean} isEdited
 * @property {boolean} isRecalled
 * @property {Record<string, string[]>} reactions  Users by key.
 *
 * @typedef {{ key: number, text: string, at: number, ref: string, refused: string }} Waiting  A text of this user on its way.
 *
 * @typedef {object} Place  The place of a conversation.
 * @property {'room' | 'user'} kind
 * @property {string} name  The name of the room, or of the other user.
 * @property {string} conversation
 * @property {string} topic  The topic that is read: the room's, or the user's own inbox, which holds the exchanges with all others.
 * @property {string} target  The topic to publish to.
 *
 * @typedef {object} Outside
 * @property {import('../sdk/client.js').Everywire} client
 * @property {string} me
 * @property {{ get(key: string): string | null, set(key: string, value: string | null): void }} store
 * @property {(talk: Talk, cursor: string) => void} came  A line of the other of two has come.
 * @property {(talk: Talk) => void} refused  The server takes nothing from this user here.
 * @property {(talk: Talk, cursor: string) => void} marked  The user's own mark has risen.
 * @property {(talk: Talk, lines: Line[]) => void} heard  Others have written new lines.
 * @property {(talk: Talk, user: string) => void} met  A user has acted.
 * @property {(talk: Talk, user: string, nick: string) => void} called  A message says the nick of an alias.
 * @property {(user: string) => string} nameOf
 * @property {() => boolean} canFold
 */

export class Talk {
  /** @type {Map<string, Line>} */
  #byId = new Map();
  /** Their ids, in the order of the log. @type {string[]} */
  #order = [];
  /** The lines of others since the page was last changed. @type {Line[]} */
  #fresh = [];
  /** How far others have read since then. @type {Map<string, string>} */
  #reads = new Map();
  /** The waiting texts whose lines have come since then. @type {Set<number>} */
  #come = new Set();
  #isDirty = false;
  #outside;
  /** @type {import('../sdk/types.js').Subscription<any> | undefined} */
  #subscription;
  #isClosed = false;
  #keys = 0;
  lines = signal(/** @type {Line[]} */ ([]));
  waiting = signal(/** @type {Waiting[]} */ ([]));
  unread = signal(0);
  mentions = signal(0);
  hasMore = signal(false);
  isLoaded = signal(false);
  /** The reason why nobody can write or read here any more. */
  ended = signal('');
  /** Cursors before which messages are lost. */
  gaps = signal(/** @type {string[]} */ ([]));
  typing = signal(/** @type {Map<string, number>} */ (new Map()));
  /** The positions up to which others have read. */
  readers = signal(/** @type {Map<string, string>} */ (new Map()));
  /** The same in the order of the log. */
  #marks = computed(() => [...this.readers.value.values()].sort((a, b) => distance(a, b) || 0));
  /** How far the lines of this user have come to the other's devices. */
  received = signal('');
  /** This user's settings of it. */
  own = signal({ muted: false, pinned: false, archived: false, notify: 'all' });
  /** The mark when the conversation was opened: after it a row says that the next lines are new. */
  opened = signal('');
  room = signal(/** @type {import('../sdk/rooms.js').Room} */ (/** @type {any} */ (null)));
  #before = '';
  #isAsking = false;

  /** The number of unread messages before the loaded lines, as the server counted. */
  #missing = 0;

  /** @param {Place} place @param {import('../sdk/rooms.js').Room} room @param {Outside} outside */
  constructor({ kind, name, conversation, topic, target }, room, outside) {
    this.kind = kind;
    this.name = name;
    this.conversation = conversation;
    this.topic = topic;
    this.target = target;
    this.room.value = room;
    this.#outside = outside;
    this.mark = outside.store.get(`mark/${conversation}`) ?? '';
    this.draft = signal(outside.store.get(`draft/${conversation}`) ?? '');
  }

  get title() {
    return this.kind === 'user' ? this.#outside.nameOf(this.name) : this.room.value.title || this.name;
  }

  /** Whether a message of the topic belongs here. @param {import('../sdk/types.js').Message<any>} message */
  #isMine({ from, to, event = 'chat', ref }) {
    return this.kind === 'room' || (event === 'chat' ? (from === this.#outside.me ? to : from) === this.name : this.#byId.has(ref ?? ''));
  }

  /** The user behind the own alias, in a room that hides its users; all others stay as they are. @param {string} name */
  #userOf(name) {
    return name === this.room.value.as ? this.#outside.me : name;
  }

  /** @param {string} id */
  lineOf(id) {
    return this.#byId.get(id);
  }

  /** The number of unread lines that the settings ask to be told of. */
  get pressing() {
    const { muted, archived, notify } = this.own.value;
    return muted || archived || notify === 'none' ? 0 : notify === 'mentions' ? this.mentions.value : this.unread.value;
  }

  /** The last line. */
  get last() {
    return this.lines.value.at(-1);
  }

  /** @param {string} text */
  keepDraft(text) {
    this.draft.value = text;
    this.#outside.store.set(`draft/${this.conversation}`, text || null);
  }

  /** Loads the latest page and follows from there. @param {import('../sdk/rooms.js').Conversation} [said]  The server's state of it. */
  async open(said) {
    const { client } = this.#outside;
    this.read(said?.read);
    const page = await this.#pages('latest');
    if (this.#subscription || this.#isClosed) return;
    // A user who has never read here has as many unread messages as the server says.
    if (!this.mark) this.read(said || this.kind === 'user' ? this.#place(said) : page.cursor);
    this.#subscription = client.subscribe(this.topic, (message) => this.take(message), { after: page.cursor || undefined });
    batch(() => {
      this.enter();
      this.isLoaded.value = true;
    });
  }

  /** The mark below the messages that the server counted as unread, and those that have come since. @param {import('../sdk/rooms.js').Conversation} [said] */
  #place(said) {
    const lines = this.lines.value;
    const isSince = (/** @type {Line} */ { cursor }) => said && (said.last ? distance(cursor, said.last.cursor) > 0 : !this.hasMore.value);
    let at = lines.length;
    while (at > 0 && isSince(lines[at - 1])) at -= 1;
    for (let count = said?.unread ?? 0; at > 0 && count > 0; at -= 1) {
      const { from, kind, isRecalled } = lines[at - 1];
      if (from !== this.#outside.me && kind === 'chat' && !isRecalled) count -= 1;
    }
    return lines[at - 1]?.cursor;
  }

  /** Begins to read, or comes back: a row will say above the unread lines that they are new. */
  enter() {
    this.opened.value = this.unread.value > 0 ? this.mark : '';
  }

  /** Ends reading: lines that come from here on are new. */
  away() {
    this.opened.value = this.mark;
  }

  close() {
    this.#isClosed = true;
    this.#subscription?.close();
  }

  /** Loads pages of a topic that holds other exchanges too, until there are some lines. @param {string} before */
  async #pages(before) {
    const count = this.#order.length;
    const first = await this.#page(before);
    for (let pages = 1; pages < PAGES_MOST && this.hasMore.value && this.#order.length - count < ENOUGH && this.kind === 'user'; pages += 1) {
      await this.#page(this.#before);
    }
    return first;
  }

  /** @param {string} before */
  async #page(before) {
    const page = await this.#outside.client.history(this.topic, { before, limit: PAGE, fold: this.#outside.canFold() });
    batch(() => {
      for (const message of page.messages) if (this.#isMine(message)) this.#apply(message);
      this.#before = page.before ?? '';
      this.hasMore.value = page.more;
      this.#show();
    });
    return page;
  }

  /** Loads the lines before the first one. */
  async older() {
    if (this.#isAsking || !this.hasMore.value) return;
    this.#isAsking = true;
    try {
      await this.#pages(this.#before);
    } finally {
      this.#isAsking = false;
    }
  }

  /** Loads what is before the first line until a line is there; tells whether it is. @param {string} id */
  async seek(id) {
    const isBefore = () => !this.#byId.has(id) && this.hasMore.value && id < (this.#order[0] ?? '~');
    for (let pages = 0; isBefore() && pages < SEEK_MOST; pages += 1) await this.older();
    return this.#byId.has(id);
  }

  /** A message of the topic. @param {import('../sdk/types.js').Message<any>} message */
  take(message) {
    if (!this.#isMine(message)) return;
    if (message.from) this.#outside.met(this, this.#userOf(message.from));
    const line = this.#apply(message);
    if (line && line.kind === 'chat') {
      if (line.from === this.#outside.me) this.#arrived(line.text);
      else {
        this.#fresh.push(line);
        if (this.kind === 'user') this.#outside.came(this, line.cursor);
      }
      if (this.typing.value.has(line.from)) this.signal({ kind: 'silent', user: line.from });
    }
    this.#later();
  }

  #later() {
    if (this.#isDirty) return;
    this.#isDirty = true;
    setTimeout(() => {
      this.#isDirty = false;
      batch(() => {
        this.#show();
        this.#raise();
      });
      const fresh = this.#fresh.splice(0);
      if (fresh.length > 0) this.#outside.heard(this, fresh);
    }, FLUSH_MS);
  }

  #show() {
    const gone = this.#order.splice(0, Math.max(0, this.#order.length - LINES_MOST));
    for (const id of gone) this.#byId.delete(id);
    // A text stands there until its line does.
    if (this.#come.size > 0) this.waiting.value = this.waiting.value.filter(({ key }) => !this.#come.has(key));
    this.#come.clear();
    this.lines.value = this.#order.map((id) => /** @type {Line} */ (this.#byId.get(id)));
    if (gone.length > 0) {
      this.hasMore.value = true;
      this.#before = this.lines.value[0].cursor;
    }
    this.#recount();
  }

  /** Shows how far others have read since the page was last changed. */
  #raise() {
    if (this.#reads.size === 0) return;
    this.readers.value = new Map([...this.readers.value, ...this.#reads]);
    this.#reads.clear();
  }

  /** @param {Line} line */
  #insert(line) {
    let [low, high] = [0, this.#order.length];
    // Most lines come at the end.
    if (high > 0 && distance(this.#cursorAt(high - 1), line.cursor) > 0) {
      while (low < high) {
        const middle = (low + high) >> 1;
        if (distance(this.#cursorAt(middle), line.cursor) > 0) high = middle;
        else low = middle + 1;
      }
    }
    this.#order.splice(high, 0, line.id);
    this.#byId.set(line.id, line);
  }

  /** @param {number} place */
  #cursorAt(place) {
    return this.#byId.get(this.#order[place])?.cursor;
  }

  #recount() {
    const { me } = this.#outside;
    let [unread, mentions] = [0, 0];
    for (let i = this.lines.value.length - 1; i >= 0; i -= 1) {
      const line = this.lines.value[i];
      if (this.mark && !(distance(line.cursor, this.mark) > 0)) break;
      if (line.from === me || line.kind !== 'chat' || line.isRecalled) continue;
      unread += 1;
      if (this.names(line.text)) mentions += 1;
    }
    [this.unread.value, this.mentions.value] = [unread + this.#missing, mentions];
  }

  /** Whether a text names this user. @param {string} text */
  names(text) {
    const names = [this.#outside.me, this.room.value.nick].filter(Boolean);
    return names.some((name) => text.includes(`@${name}`));
  }

  /**
   * Adds a message, or applies a change to the one that it is about.
   * @param {import('../sdk/types.js').Message<any> & { edited?: boolean, recalled?: boolean, reactions?: Record<string, string[]> }} message
   * @returns {Line | undefined} the new line
   */
  #apply(message) {
    const { id, cursor, time, event = 'chat', ref = '', bytes, nick } = message;
    const from = this.#userOf(message.from ?? '');
    if (nick) this.#outside.called(this, from, nick);
    const known = this.#byId.get(ref);
    if (event === 'edit' || event === 'recall' || event === 'react') {
      if (known) this.#byId.set(known.id, changed(known, { ...message, from }));
      return undefined;
    }
    if (event !== 'chat' && event !== 'subject') return undefined;
    if (this.#byId.has(id)) return undefined;
    const text = bytes ? `${bytes.length} B` : textOf(message.body);
    /** @type {Line} */
    const line = {
      id, cursor, at: Date.parse(time), from, text, kind: event, ref,
      isEdited: Boolean(message.edited), isRecalled: Boolean(message.recalled),
      reactions: Object.fromEntries(Object.entries(message.reactions ?? {}).map(([key, users]) => [key, users.map((user) => this.#userOf(user))])),
    };
    this.#insert(line);
    return line;
  }

  /** Publishes a text; it waits in the outbox while there is no connection. @param {string} text @param {string} [ref]  The line that it answers. */
  async say(text, ref = '') {
    const { client, me } = this.#outside;
    const waiting = { key: this.#keys += 1, text, ref, at: Date.now(), refused: '' };
    this.waiting.value = [...this.waiting.value, waiting];
    try {
      const { id, cursor } = await client.publish(this.target, text, { event: 'chat', type: 'text/plain;charset=utf-8', ref: ref || undefined });
      batch(() => {
        this.waiting.value = this.waiting.value.filter(({ key }) => key !== waiting.key);
        if (id && !this.#byId.has(id)) this.#apply({ id, cursor, time: new Date(waiting.at).toISOString(), topic: this.topic, from: me, event: 'chat', ref, body: text });
        this.#show();
      });
    } catch (error) {
      const refused = error instanceof Error ? error.message : String(error);
      if ([403, 404].includes(/** @type {any} */ (error).status)) this.#outside.refused(this);
      this.waiting.value = this.waiting.value.map((one) => (one.key === waiting.key ? { ...one, refused } : one));
    }
  }

  /** Drops a refused text. @param {number} key */
  discard(key) {
    this.waiting.value = this.waiting.value.filter((one) => one.key !== key);
  }

  /** Takes a waiting text as published, since its line came before the answer to its publish. @param {string} text */
  #arrived(text) {
    const first = this.waiting.value.find((one) => one.text === text && !one.refused && !this.#come.has(one.key));
    if (first) this.#come.add(first.key);
  }

  /** Marks everything up to the last line as seen. */
  seen() {
    const cursor = this.last?.cursor;
    if (!cursor || !this.isLoaded.value || distance(cursor, this.mark) <= 0) return;
    this.#missing = 0;
    this.#rise(cursor);
    this.#recount();
    this.#outside.marked(this, cursor);
  }

  /** The mark, which never goes back; other devices may have raised it. @param {string | undefined} cursor */
  read(cursor) {
    if (!cursor || distance(cursor, this.mark) <= 0) return;
    this.#rise(cursor);
    this.#recount();
  }

  /** Takes over the server's state of it. @param {import('../sdk/rooms.js').Conversation} said */
  settle({ read, unread, muted, pinned, archived, notify, theirs }) {
    this.own.value = { muted, pinned, archived, notify };
    this.read(read);
    if (theirs) this.signal({ kind: 'read', user: this.name, cursor: theirs });
    const [first] = this.lines.value;
    // Further unread lines can be before the loaded ones only if all of these are unread.
    const hasMore = first && this.hasMore.value && distance(first.cursor, this.mark) > 0;
    if (hasMore && this.#missing === 0) this.#missing = Math.max(0, unread - this.unread.value);
    this.#recount();
  }

  /** @param {string} cursor */
  #rise(cursor) {
    this.mark = cursor;
    this.#outside.store.set(`mark/${this.conversation}`, cursor);
  }

  /** @param {{ kind: string, user: string, cursor?: string }} said */
  signal({ kind, user: name, cursor }) {
    const [{ me }, user] = [this.#outside, this.#userOf(name)];
    if (kind === 'read' && user === me) return this.read(cursor);
    if (kind === 'read' && cursor && !(distance(cursor, this.#reads.get(user) ?? this.readers.value.get(user)) <= 0)) {
      this.#reads.set(user, cursor);
      this.#later();
    }
    if (kind === 'received' && cursor && user !== me && !(distance(cursor, this.received.value) <= 0)) this.received.value = cursor;
    if (user === me || (kind !== 'typing' && kind !== 'silent')) return;
    const typing = new Map(this.typing.value);
    if (kind === 'silent') typing.delete(user);
    else {
      const until = Date.now() + TYPING_MS;
      typing.set(user, until);
      setTimeout(() => { if (this.typing.value.get(user) === until) this.signal({ kind: 'silent', user }); }, TYPING_MS);
    }
    this.typing.value = typing;
  }

  /** Takes a gap: the kept lines are loaded anew, and the place is marked. @param {string} earliest */
  async gap(earliest) {
    this.gaps.value = [...this.gaps.value, earliest];
    await lasting(() => this.#page('latest'), () => this.#isClosed).catch(() => {});
  }

  /** The number of others who have read a line. @param {Line} line */
  readBy(line) {
    const marks = this.#marks.value;
    let [low, high] = [0, marks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (distance(marks[middle], line.cursor) >= 0) high = middle;
      else low = middle + 1;
    }
    return marks.length - low;
  }

  /** The others who have read a line. @param {Line} line */
  readersOf(line) {
    return [...this.readers.value].filter(([, cursor]) => distance(cursor, line.cursor) >= 0).map(([user]) => user);
  }
}

/**
 * A line after a change.
 * @param {Line} line @param {any} change
 * @returns {Line}
 */
function changed(line, { event, body, from }) {
  if (event === 'recall') return { ...line, isRecalled: true, text: '' };
  if (event === 'edit') return { ...line, isEdited: true, text: textOf(body) };
  const [key, isOff] = /** @type {[string, boolean]} */ (typeof body === 'object' ? [body?.key, body?.off] : [body, false]);
  const others = (line.reactions[key] ?? []).filter((user) => user !== from);
  const reactions = { ...line.reactions, [key]: isOff ? others : [...others, from] };
  if (reactions[key].length === 0) delete reactions[key];
  return { ...line, reactions };
}
