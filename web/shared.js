/** The code that all pages share: the language, the token, the server's address, the frame around the content. */

import { Everywire, Problem } from './sdk/everywire.js';
import { backoff } from './sdk/shared.js';
import { computed, html, render, signal, useEffect, useState } from './vendor/ui.js';
import en from './i18n/en/common.js';

/** The loaded languages; English is always there, the other one when a user chooses it. @type {Record<string, Record<string, string>>} */
const LANGUAGES = { en: { ...en }, zh: {} };
/** The texts of the other language that are still to be loaded. @type {(() => Promise<{ default: Record<string, string> }>)[]} */
const loads = [() => import('./i18n/zh/common.js')];
const [TOKEN, LANGUAGE] = ['everywire:token', 'everywire:language'];

/** Storage that is full or forbidden is as good as none. @param {() => any} act */
export const attempt = (act) => {
  try {
    return act();
  } catch {
    return null;
  }
};

/** The address of the server: the pages may be under a path. */
export const base = new URL('.', location.href);

const prefers = navigator.language.startsWith('zh') ? 'zh' : 'en';
const first = /** @type {string} */ (attempt(() => localStorage.getItem(LANGUAGE)) ?? prefers);
export const language = signal(first);

/** Without them the page speaks English. */
const load = () => Promise.all(loads.splice(0).map((load) => load().then((texts) => Object.assign(LANGUAGES.zh, texts.default), () => { loads.push(load); })));

/**
 * Adds the texts of a page.
 * @param {Record<string, string>} english @param {() => Promise<{ default: Record<string, string> }>} chinese
 */
export async function speaks(english, chinese) {
  Object.assign(LANGUAGES.en, english);
  loads.push(chinese);
  if (language.value === 'zh') await load();
}

/** @param {string} name */
async function speak(name) {
  if (name === 'zh') await load();
  language.value = name;
  attempt(() => localStorage.setItem(LANGUAGE, name));
}

/**
 * A text in the chosen language.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const text = LANGUAGES[language.value]?.[key] ?? LANGUAGES.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** Formatters, by language and what they format: making one takes longer than a hundred uses. @type {Map<string, any>} */
const formatters = new Map();

/** @template {Intl.NumberFormat | Intl.DateTimeFormat} F @param {string} key @param {(language: string) => F} make @returns {F} */
export function formatter(key, make) {
  const name = `${language.value} ${key}`;
  if (!formatters.has(name)) formatters.set(name, make(language.value));
  return formatters.get(name);
}

/** @param {number} n @param {{ maximumFractionDigits?: number }} [options] */
export const number = (n, options = {}) => formatter(`n${options.maximumFractionDigits ?? 1}`,
  (language) => new Intl.NumberFormat(language, { maximumFractionDigits: 1, ...options })).format(n);

/** @param {number} n */
export function bytes(n) {
  const [size, unit] = n < 1000 ? [n, 'B'] : n < 1e6 ? [n / 1e3, 'kB'] : n < 1e9 ? [n / 1e6, 'MB'] : [n / 1e9, 'GB'];
  return `${number(size, { maximumFractionDigits: size < 10 && unit !== 'B' ? 1 : 0 })} ${unit}`;
}

/** @param {string | number | Date} at */
export const clock = (at) => formatter('clock', (language) => new Intl.DateTimeFormat(language, { timeStyle: 'medium' })).format(new Date(at));

/** The token: it leaves the address at once, and is kept until the tab is closed. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given === null) return attempt(() => sessionStorage.getItem(TOKEN)) ?? '';
  history.replaceState(null, '', location.pathname + location.search);
  attempt(() => sessionStorage.setItem(TOKEN, given));
  return given;
}
export const token = signal(takeToken());
addEventListener('hashchange', () => {
  if (/\btoken=/.test(location.hash)) token.value = takeToken();
});

/** @param {string} value */
export function keepToken(value) {
  attempt(() => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)));
  token.value = value;
}

/** A client of this server with the present token. @param {import('./sdk/types.js').Options} [options] */
export const connect = (options = {}) => new Everywire(base, { token: token.value || undefined, ...options });

/**
 * Asks the server; a failure is thrown as a Problem.
 * @param {string} path @param {RequestInit} [options]
 */
export async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token.value ? { Authorization: `Bearer ${token.value}` } : {}) };
  let response;
  try {
    response = await fetch(new URL(path, base), { cache: 'no-store', ...options, headers });
  } catch (error) {
    throw options.signal?.aborted ? error : new Problem(0, 'the server can’t be reached');
  }
  if (!response.ok) throw await Problem.of(response);
  return response;
}

/** The bounds of the pauses before trying again. @type {[number, number]} */
const RETRY_MS = [250, 10_000];

/**
 * Does again, after pauses, what failed for a reason that passes.
 * @template T
 * @param {() => Promise<T>} act @param {() => boolean} isOver  Whether nobody wants it any more.
 * @param {(error: unknown) => void} [failed]  Hears of each failure after which it tries again.
 */
export async function lasting(act, isOver, failed = () => {}) {
  for (let failures = 0; ; failures += 1) {
    try {
      return await act();
    } catch (error) {
      if (isOver() || !Problem.from(error).isPassing) throw error;
      failed(error);
    }
    await new Promise((resolve) => { setTimeout(resolve, backoff(failures, RETRY_MS)); });
  }
}

/** A body as text. @param {unknown} body */
export const textOf = (body) => (typeof body === 'string' ? body : JSON.stringify(body) ?? '');

/** @param {unknown} error */
export const reasonOf = (error) => (error instanceof Error ? error.message : String(error));

const PAGES = [['home', './'], ['chat', 'chat'], ['lab', 'lab'], ['console', 'console']];

/** @param {{ page: string, children?: any }} props */
function Frame({ page, children }) {
  const other = language.value === 'zh' ? 'en' : 'zh';
  return html`
    <a class="skip" href="#content">${t('app.skip')}</a>
    <header class="top">
      <a class="brand" href="./"><img src="web/icon.svg" alt="" width="22" height="22" /> Everywire</a>
      <nav aria-label=${t('nav.label')}>
        ${PAGES.map(([name, href]) => html`<a key=${name} href=${href} aria-current=${name === page ? 'page' : undefined}>${t(`nav.${name}`)}</a>`)}
      </nav>
      <button type="button" class="language" lang=${other} aria-label=${t('app.otherLabel')} onClick=${() => speak(other)}>${t('app.other')}</button>
    </header>
    <main id="content" tabindex="-1">${children}</main>`;
}

/** Asks for a token, or a guest's name. @param {{ hint?: string }} props */
export function TokenForm({ hint }) {
  const [text, setText] = useState('');
  const [name, setName] = useState('');
  const [refusal, setRefusal] = useState('');
  const enter = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      const response = await ask('v1/guests', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ name }) });
      keepToken((await response.json()).token);
    } catch (error) {
      setRefusal(t('token.guest.off', { reason: reasonOf(error) }));
    }
  };
  if (token.value) {
    return html`<p class="hint">${t('token.have')} <button type="button" onClick=${() => keepToken('')}>${t('token.forget')}</button></p>`;
  }
  return html`
    <p class="hint">${hint ?? t('token.none')}</p>
    <form class="row" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); keepToken(text.trim()); }}>
      <label for="token">${t('token.label')}</label>
      <input id="token" type="password" autocomplete="off" required value=${text} onInput=${(/** @type {any} */ e) => setText(e.target.value)} />
      <button>${t('token.set')}</button>
    </form>
    ${!hint && html`
      <form class="row" onSubmit=${enter}>
        <label for="guest">${t('token.guest')}</label>
        <input id="guest" maxlength="64" autocomplete="nickname" required value=${name} onInput=${(/** @type {any} */ e) => setName(e.target.value)} />
        <button>${t('token.guest.go')}</button>
      </form>
      <p class="status bad" role="status">${refusal}</p>`}`;
}

/**
 * A component that is loaded when it is first shown.
 * @param {() => Promise<any>} load @param {string} [place]  The class of what stands there until then.
 */
export function lazy(load, place = '') {
  /** @type {any} */
  let loaded = null;
  return (/** @type {any} */ props) => {
    const [Shown, setShown] = useState(() => loaded);
    const [failure, setFailure] = useState('');
    useAnswer(load, (it) => { loaded = it; setShown(() => it); }, (error) => setFailure(reasonOf(error)), []);
    return Shown ? html`<${Shown} ...${props} />` : html`<p class=${`status bad ${place}`} role="status">${failure}</p>`;
  };
}

/**
 * Asks whenever an input changes, and again while the network brings no answer. An answer to an older question is left out.
 * @template T
 * @param {() => Promise<T>} ask @param {(answer: T) => void} take @param {(error: unknown) => void} refuse @param {any[]} inputs
 */
export function useAnswer(ask, take, refuse, inputs) {
  useEffect(() => {
    let isOld = false;
    const failed = (/** @type {unknown} */ error) => { if (!isOld) refuse(error); };
    lasting(ask, () => isOld, failed).then((answer) => { if (!isOld) take(answer); }, failed);
    return () => { isOld = true; };
  }, inputs);
}

/** Shows a page. @param {string} page @param {() => any} Content */
export function show(page, Content) {
  computed(() => [language.value, page]).subscribe(() => {
    document.documentElement.dataset.page = page;
    document.documentElement.lang = language.value === 'zh' ? 'zh-CN' : 'en';
    document.title = page === 'home' ? t('home.title') : `${t(`${page}.title`)} · Everywire`;
  });
  const root = /** @type {HTMLElement} */ (document.getElementById('root'));
  render(html`<${Frame} page=${page}><${Content} /><//>`, root);
}
