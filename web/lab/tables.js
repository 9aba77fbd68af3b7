/** The lab's tables: the cost so far, and the cost for many users. */

import { bytes, number, t } from '../shared.js';
import { html, useState } from '../vendor/ui.js';

/** @typedef {import('./lane.js').Lane} Lane */
/** @typedef {import('../vendor/ui.js').Signal<number>} Beat */

/** The memory of an idle connection (docs/performance.md). A short poll has none. */
const CONNECTION_BYTES = 1024;

/** @param {number | null} ms */
const milliseconds = (ms) => (ms === null ? '–' : `${number(ms, { maximumFractionDigits: ms < 10 ? 1 : 0 })} ms`);

/** `beat` changes when there are new figures. @param {{ lanes: Lane[], isCounted: boolean, beat: Beat }} props */
export function Costs({ lanes, isCounted, beat }) {
  void beat.value;
  const columns = /** @type {[string, (lane: Lane) => string][]} */ ([
    ['requests', ({ samples }) => number(samples.at(-1)?.requests ?? 0)],
    ['empty', ({ samples }) => number(samples.at(-1)?.empty ?? 0)],
    ['messages', ({ samples }) => number(samples.at(-1)?.messages ?? 0)],
    ...(isCounted ? [['in', (/** @type {Lane} */ { samples }) => bytes(samples.at(-1)?.bytesIn ?? 0)]] : []),
    ['out', ({ samples }) => bytes(samples.at(-1)?.bytesOut ?? 0)],
    ...(isCounted ? [['writes', (/** @type {Lane} */ { samples }) => number(samples.at(-1)?.writes ?? 0)]] : []),
    ['p50', (lane) => milliseconds(lane.delay(0.5))],
    ['p99', (lane) => milliseconds(lane.delay(0.99))],
    ['lost', ({ lost }) => number(lost)],
    ['cpu', ({ cpu }) => (cpu === null ? '–' : `${number(cpu * 1e6, { maximumFractionDigits: 0 })} µs`)],
  ]);
  return html`
    <section class="sheet" aria-labelledby="costs-title">
      <h2 id="costs-title">${t('lab.table')}</h2>
      <p class="hint">${t(isCounted ? 'lab.counted.server' : 'lab.counted.page')}</p>
      <div class="wide" role="group" aria-labelledby="costs-title" tabindex="0">
        <table class="cards numbers">
          <thead><tr><th scope="col">${t('app.wire')}</th>${columns.map(([name]) => html`<th scope="col" key=${name}>${t(`lab.col.${name}`)}</th>`)}</tr></thead>
          <tbody>
            ${lanes.map((lane) => html`
              <tr key=${lane.wire}>
                <th scope="row"><span class="chip" data-wire=${lane.wire}>${t(`wire.${lane.wire}`)}</span></th>
                ${columns.map(([name, show]) => html`<td key=${name} data-label=${t(`lab.col.${name}`)}>${show(lane)}</td>`)}
              </tr>`)}
          </tbody>
        </table>
      </div>
    </section>`;
}

/** @param {{ lanes: Lane[], beat: Beat }} props */
export function Users({ lanes, beat }) {
  void beat.value;
  const [power, setPower] = useState(4);
  const count = Math.round(10 ** power);
  const many = number(count);
  const cells = (/** @type {Lane} */ { wire, rates, cpu }) => [
    ['requests', number(rates.requests * count)],
    ['mbit', number((rates.bytes * 8 * count) / 1e6)],
    ['cores', cpu === null ? '–' : number(cpu * rates.messages * count, { maximumFractionDigits: 2 })],
    ['memory', wire === 'poll' ? '–' : bytes(CONNECTION_BYTES * count)],
  ];
  const [{ rates }] = lanes;
  const formula = { requests: number(rates.requests, { maximumFractionDigits: 2 }), bytes: number(rates.bytes), count: many };
  return html`
    <section class="sheet" aria-labelledby="users-title">
      <h2 id="users-title">${t('lab.users')}</h2>
      <div class="row">
        <label class="unseen" for="users">${t('lab.users')}</label>
        <input id="users" class="grow" type="range" min="0" max="6" step="0.5" value=${power} aria-valuetext=${t('lab.users.count', { count: many })} onInput=${(/** @type {any} */ event) => setPower(Number(event.target.value))} />
        <output for="users">${t('lab.users.count', { count: many })}</output>
      </div>
      <div class="wide" role="group" aria-labelledby="users-title" tabindex="0">
        <table class="cards numbers">
          <thead><tr><th scope="col">${t('app.wire')}</th>${['requests', 'mbit', 'cores', 'memory'].map((name) => html`<th scope="col" key=${name}>${t(`lab.users.${name}`)}</th>`)}</tr></thead>
          <tbody>${lanes.map((lane) => html`<tr key=${lane.wire}><th scope="row"><span class="chip" data-wire=${lane.wire}>${t(`wire.${lane.wire}`)}</span></th>${cells(lane).map(([name, text]) => html`<td key=${name} data-label=${t(`lab.users.${name}`)}>${text}</td>`)}</tr>`)}</tbody>
        </table>
      </div>
      <p class="hint">${t('wire.poll')}: ${t('lab.users.formula', formula)}</p>
    </section>`;
}
