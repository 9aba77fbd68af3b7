/** The plots of the lab, on uPlot, which comes after the page. */

import { lasting, t } from '../shared.js';
import { html, useEffect, useRef } from '../vendor/ui.js';

const KEPT = 120;
const HEIGHT = 150;

/** Numbers over time, one line per wire. */
export class Series {
  /** @type {(number | null)[][]} */
  data;

  /** @param {string} key  The text over it. @param {readonly string[]} wires */
  constructor(key, wires) {
    this.key = key;
    this.wires = wires;
    this.data = [[], ...wires.map(() => [])];
  }

  /** @param {(number | null)[]} values */
  push(values) {
    this.data = this.data.map((line, i) => [...line, i === 0 ? Date.now() / 1000 : values[i - 1]].slice(-KEPT));
  }
}

/** @param {{ series: Series, beat: import('../vendor/ui.js').Signal<number> }} props */
export function Plot({ series, beat }) {
  const tick = beat.value;
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  useEffect(() => {
    const element = /** @type {HTMLDivElement} */ (place.current);
    let isOver = false;
    const begin = async () => {
      const { default: uPlot } = await lasting(() => import('../vendor/uplot.js'), () => isOver);
      if (!isOver) plot.current = make(uPlot, element, series);
    };
    // A plot is made when it is looked at.
    const look = new IntersectionObserver((seen) => {
      if (!seen.some(({ isIntersecting }) => isIntersecting)) return;
      look.disconnect();
      begin().catch(() => {});
    }, { rootMargin: '25%' });
    look.observe(element);
    const resize = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    resize.observe(element);
    return () => {
      isOver = true;
      look.disconnect();
      resize.disconnect();
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => { plot.current?.setData(series.data); }, [tick]);
  return html`<figure class="plot"><figcaption>${t(series.key)}</figcaption><div ref=${place} aria-hidden="true"></div></figure>`;
}

/** @param {any} uPlot @param {HTMLElement} element @param {Series} series */
function make(uPlot, element, series) {
  const style = getComputedStyle(element);
  const color = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
  const axis = { stroke: color('soft'), grid: { stroke: color('line'), width: 1 }, ticks: { stroke: color('line'), width: 1 }, font: '11px system-ui' };
  return new uPlot({
    width: element.clientWidth, height: HEIGHT, legend: { show: false }, cursor: { show: false },
    axes: [{ ...axis, space: 80 }, { ...axis, size: 52 }],
    scales: { y: { range: (/** @type {unknown} */ _, /** @type {number} */ low, /** @type {number} */ high) => [0, Math.max(high ?? 1, low, 1)] } },
    series: [{}, ...series.wires.map((wire) => ({ label: t(`wire.${wire}`), stroke: color(wire), width: 1.5, points: { show: false }, spanGaps: true }))],
  }, series.data, element);
}
