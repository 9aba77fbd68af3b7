/** The lab's controls and claims. */

import { Problem } from '../sdk/everywire.js';
import { base, lasting, number, reasonOf, t } from '../shared.js';
import { html, useEffect, useState } from '../vendor/ui.js';

/** @typedef {import('../vendor/ui.js').Signal<number>} NumberSignal */

/** Rates on the slider: fine where it is slow. */
const RATES = [0, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];
const SIZES = [20, 100, 1000, 10_000];
const INTERVALS = [250, 1000, 5000, 15_000];

/**
 * @param {{ settings: { rate: NumberSignal, size: NumberSignal, interval: NumberSignal },
 *   busy: { what: string, wire?: string } | null, cut: () => void, measure: () => void }} props
 */
export function Controls({ settings: { rate, size, interval }, busy, cut, measure }) {
  const select = (/** @type {string} */ id, /** @type {NumberSignal} */ of, /** @type {number[]} */ values, /** @type {(n: number) => string} */ show) => html`
    <select id=${id} value=${String(of.value)} onChange=${(/** @type {any} */ event) => { of.value = Number(event.target.value); }}>
      ${values.map((value) => html`<option key=${value} value=${String(value)} selected=${value === of.value}>${show(value)}</option>`)}
    </select>`;
  const words = !busy ? t('lab.measureHint') : busy.what === 'cut' ? t('lab.cutting') : t('lab.measuring', { wire: busy.wire ? t(`wire.${busy.wire}`) : '…' });
  return html`
    <form class="controls sheet" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <div class="grow">
        <label for="rate">${t('lab.rate')}</label>
        <div class="row"><input id="rate" type="range" min="0" max=${RATES.length - 1} step="1" value=${RATES.indexOf(rate.value)}
          aria-valuetext=${number(rate.value)} onInput=${(/** @type {any} */ event) => { rate.value = RATES[event.target.value]; }} /><output for="rate">${number(rate.value)}</output></div>
      </div>
      <div><label for="size">${t('lab.size')}</label>${select('size', size, SIZES, (n) => number(n))}</div>
      <div><label for="interval">${t('lab.interval')}</label>${select('interval', interval, INTERVALS, (ms) => t('lab.seconds', { s: number(ms / 1000, { maximumFractionDigits: 2 }) }))}</div>
      <div class="row">
        <button type="button" onClick=${cut} disabled=${busy !== null}>${t('lab.cut')}</button>
        <button type="button" onClick=${measure} disabled=${busy !== null} aria-describedby="busy">${t('lab.measure')}</button>
      </div>
      <p id="busy" class="hint" role="status">${words}</p>
    </form>`;
}

/** Waits on the classic route, and shows what it brought. */
function Watch() {
  const [news, setNews] = useState('…');
  useEffect(() => {
    const over = new AbortController();
    const isOver = () => over.signal.aborted;
    const tell = (/** @type {unknown} */ error) => { if (!isOver()) setNews(reasonOf(error)); };
    let tag = '';
    const turn = async () => {
      const response = await fetch(new URL('polling/watch/10086', base), { signal: over.signal, headers: tag ? { 'If-None-Match': tag } : {} });
      if (response.ok) setNews(await response.text());
      else if (response.status !== 304) throw await Problem.of(response);
      tag = response.headers.get('ETag') ?? tag;
    };
    const watch = async () => { while (!isOver()) await lasting(turn, isOver, tell); };
    watch().catch(tell);
    return () => over.abort();
  }, []);
  return html`
    <pre><code>curl -si '${new URL('polling/watch/10086', base).href}'</code></pre>
    <pre><code>curl -s '${new URL('polling/publish/10086?message=changed', base).href}'</code></pre>
    <p role="status">10086: <b>${news}</b></p>`;
}

/**
 * @param {{ claims: import('./claims.js').Claim[], chosen: import('./claims.js').Claim | null,
 *   choose: (claim: import('./claims.js').Claim) => void }} props
 */
export function Claims({ claims, chosen, choose }) {
  return html`
    <section class="sheet" aria-labelledby="claims-title">
      <h2 id="claims-title">${t('lab.claims')}</h2>
      <div class="row claims">
        ${claims.map((claim) => html`<button key=${claim.name} type="button" aria-pressed=${claim === chosen} onClick=${() => choose(claim)}>${t(`claim.${claim.name}`)}</button>`)}
      </div>
      <p class="look" role="status">${chosen && t('lab.look', { what: t(`claim.${chosen.name}.look`) })}</p>
      ${chosen?.hasTerminal && html`<${Watch} />`}
    </section>`;
}
