/** The lab: five wires side by side on one topic, and the cost of each. */

import { CLAIMS } from './lab/claims.js';
import { Controls, Claims } from './lab/controls.js';
import { Lane, Line } from './lab/lane.js';
import { Plot, Series } from './lab/plots.js';
import { Publisher } from './lab/publisher.js';
import { animate } from './lab/strip.js';
import { Costs, Users } from './lab/tables.js';
import { sentence } from './lab/words.js';
import { WIRES, restWhenHidden } from './readers.js';
import { ask, lasting, reasonOf, show, speaks, t, token, TokenForm } from './shared.js';
import { effect, html, signal, useEffect, useRef } from './vendor/ui.js';
import english from './i18n/en/lab.js';

await speaks(english, () => import('./i18n/zh/lab.js'));

const TOPIC = `lab/${crypto.randomUUID().slice(0, 8)}`;
const SAMPLE_MS = 1000;
const CUT_MS = 2000;
const MEASURE_MS = 5000;
const NARROW = matchMedia('(max-width: 44rem)');

/** The settings of the controls. */
export const settings = { rate: signal(0.5), size: signal(100), interval: signal(1000), claim: signal(/** @type {import('./lab/claims.js').Claim | null} */ (null)) };
const shown = signal(new Set(NARROW.matches ? ['poll'] : WIRES));
const beat = signal(0);
const refusal = signal('');
const version = signal('');
/** Whether the server counts by label: its description says so. */
const isCounted = signal(false);
const isPainted = signal(false);
const busy = signal(/** @type {{ what: 'cut' | 'measure', wire?: string } | null} */ (null));

const line = new Line();
const lanes = WIRES.map((wire) => new Lane(wire, TOPIC, line, settings.interval.value));
const publisher = new Publisher(TOPIC, (reason) => { refusal.value = reason ? reasonOf(reason) : ''; });
const plots = [new Series('lab.plot.delay', WIRES), new Series('lab.plot.bytes', WIRES)];

effect(() => { [publisher.rate, publisher.size] = [settings.rate.value, settings.size.value]; });
settings.interval.subscribe((pollMs) => {
  const [poll] = lanes;
  poll.reader.options = { ...poll.reader.options, pollMs };
  if (poll.reader.isRunning) poll.reader.restart();
});

/** The server's counts of a lane. @param {Lane} lane */
async function counted({ label }) {
  const { bytes_in: bytesIn, bytes_out: bytesOut, ...counts } = await (await ask(`v1/lab?label=${label}`)).json();
  return { ...counts, bytesIn, bytesOut };
}

async function sample() {
  if (document.hidden) return;
  for (const lane of lanes) {
    try {
      lane.sample(isCounted.value ? await counted(lane) : undefined);
    } catch {
      // The next sample has the counts that this one missed.
    }
    lane.forget();
  }
  plots[0].push(lanes.map((lane) => median(lane.fresh.splice(0))));
  plots[1].push(lanes.map((lane) => lane.rates.bytes));
  beat.value += 1;
}

/** @param {number[]} numbers */
const median = (numbers) => (numbers.length > 0 ? numbers.toSorted((a, b) => a - b)[numbers.length >> 1] : null);

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

export async function cut() {
  if (busy.value) return;
  busy.value = { what: 'cut' };
  const marks = lanes.map((lane) => {
    /** @type {{ from: number, to?: number }} */
    const mark = { from: performance.now() };
    lane.cuts.push(mark);
    return mark;
  });
  line.cut();
  await pause(CUT_MS);
  line.mend();
  for (const mark of marks) mark.to = performance.now();
  busy.value = null;
}

/** The server's CPU seconds so far. */
async function cpu() {
  const text = await (await ask('metrics')).text();
  return Number(/^process_cpu_seconds_total\s+(\S+)/m.exec(text)?.[1]);
}

/** Resolves when a lane's wire runs, or is refused. @param {Lane} lane */
const settled = ({ reader }) => new Promise((resolve) => {
  const end = reader.state.subscribe(({ state }) => {
    if (state === 'open' || state === 'refused') Promise.resolve().then(() => { end(); resolve(0); });
  });
});

/** Measures each wire alone for five seconds, and subtracts the cost of publishing alone. */
export async function measure() {
  if (busy.value) return;
  const running = lanes.filter(({ reader }) => reader.isRunning);
  try {
    for (const lane of running) lane.reader.stop();
    let idle = 0;
    for (const lane of [null, ...running]) {
      busy.value = { what: 'measure', wire: lane?.wire };
      lane?.reader.start();
      // What connecting takes isn't part of it.
      if (lane) await Promise.race([settled(lane), pause(MEASURE_MS)]);
      const [begun, messages] = [await cpu(), lane?.messages ?? 0];
      await pause(MEASURE_MS);
      const spent = await cpu() - begun;
      lane?.reader.stop();
      if (!lane) idle = spent;
      else if (lane.messages > messages) lane.cpu = Math.max(0, spent - idle) / (lane.messages - messages);
    }
  } catch (error) {
    refusal.value = reasonOf(error);
  }
  for (const lane of running) lane.reader.start();
  busy.value = null;
}

/** @param {import('./lab/claims.js').Claim} claim */
export function tryClaim(claim) {
  settings.claim.value = claim;
  [settings.rate.value, settings.size.value, settings.interval.value] = [claim.rate, claim.size, claim.interval];
  if (claim.isCut) cut();
}

/** @param {{ lane: Lane }} props */
function LaneRow({ lane }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useEffect(() => animate(/** @type {HTMLCanvasElement} */ (canvas.current), lane), [lane]);
  const { state, reason } = lane.reader.state.value;
  void beat.value;
  const isWell = state === 'open' || state === 'connecting' || busy.value;
  return html`
    <li class="lane" data-wire=${lane.wire}>
      <h3>${t(`wire.${lane.wire}`)}</h3>
      <canvas ref=${canvas} aria-hidden="true"></canvas>
      <p class=${isWell ? '' : 'bad'}>${isWell ? sentence(lane, isCounted.value) : t(`state.${state}`, { reason: reason ?? '' })}</p>
    </li>`;
}

function Lanes() {
  /** @param {string} wire */
  const toggle = (wire) => {
    const next = new Set(NARROW.matches ? [] : shown.value);
    if (!next.delete(wire)) next.add(wire);
    shown.value = next;
  };
  return html`
    <section class="sheet" aria-labelledby="lanes-title">
      <h2 id="lanes-title">${t('lab.lanes')}</h2>
      <p class="hint">${t('lab.intro')}</p>
      <div class="row chips" role="group" aria-label=${t('lab.show')}>
        ${WIRES.map((wire) => html`<button key=${wire} type="button" class="chip" data-wire=${wire} aria-pressed=${shown.value.has(wire)} onClick=${() => toggle(wire)}>${t(`wire.${wire}`)}</button>`)}
      </div>
      ${refusal.value && html`<p class="status bad" role="status">${t('lab.error', { reason: refusal.value })}</p>`}
      <ul class="lanes">${lanes.filter(({ wire }) => shown.value.has(wire)).map((lane) => html`<${LaneRow} key=${lane.wire} lane=${lane} />`)}</ul>
    </section>`;
}

function Lab() {
  return html`
    <h1>${t('lab.title')}</h1>
    <${Controls} settings=${settings} busy=${busy.value} cut=${cut} measure=${measure} />
    <${Lanes} />
    ${isPainted.value && html`<${Rest} />`}`;
}

/** The content below the first screen. */
function Rest() {
  return html`
    <${Claims} claims=${CLAIMS} chosen=${settings.claim.value} choose=${tryClaim} />
    <${Costs} lanes=${lanes} isCounted=${isCounted.value} beat=${beat} />
    <div class="pair">${plots.map((series) => html`<${Plot} key=${series.key} series=${series} beat=${beat} />`)}</div>
    <${Users} lanes=${lanes} beat=${beat} />
    ${version.value && html`<p class="hint">${t('lab.engine', { version: version.value })}</p>`}
    ${(refusal.value || token.value) && html`<section class="sheet" aria-labelledby="who-title"><h2 id="who-title">${t('token.title')}</h2><${TokenForm} /></section>`}`;
}

/** Asks for the abilities of this server. */
async function look() {
  try {
    const { paths, info } = await lasting(async () => (await ask('openapi.json')).json(), () => false);
    isCounted.value = '/v1/lab' in paths;
    version.value = `Everywire ${info.version}`;
  } catch { /* Then this page takes it that the server doesn't count. */ }
}

show('lab', Lab);
// Step by step, so that no step is long: the first screen is painted, then the rest of the page, then the readers start.
requestAnimationFrame(() => setTimeout(() => {
  isPainted.value = true;
  setTimeout(() => token.subscribe(() => { for (const { reader } of lanes) reader.restart(); }));
}));
restWhenHidden(() => lanes.map(({ reader }) => reader));
// Counts of the page and of the server don't mix: sampling begins when it is known which of them counts.
look().then(() => setInterval(sample, SAMPLE_MS));
