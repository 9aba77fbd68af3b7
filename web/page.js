/**
 * The first page: publish on the left; short poll, long poll, SSE, WebSocket and MQTT receive it side by side. With an operator's
 * token in the address (`#token=…`) it shows who is connected.
 *
 * The address says what is shown: `?topic=room/42&via=sse&start=earliest`; without `via` all transports.
 */

import { Everywire, transports } from './everywire.js';
import { Column, titleOf } from './column.js';
import { watchConnections } from './connections.js';

const BURST = 20;
const find = (selector) => document.querySelector(selector);
const client = new Everywire();
const address = new URLSearchParams(location.search);
let columns = [];

/** The transports that this window shows. */
function chosen() {
  const via = address.getAll('via').filter((name) => transports.includes(name));
  return via.length > 0 ? via : transports;
}

function follow(topic, start) {
  columns.forEach((column) => column.stop());
  columns = chosen().map((via) => new Column(client, via, topic, start, announce));
  find('#columns').dataset.count = columns.length;
  find('#columns').replaceChildren(...columns.map((column) => column.element));
  columns.forEach((column) => column.start());
  describe(topic);
}

/** Shows how to reach the topic from elsewhere. */
function describe(topic) {
  document.title = `${topic} · Everywire`;
  const query = `topic=${encodeURIComponent(topic)}`;
  find('#windows').replaceChildren(...transports.map((via) => {
    const [line, link] = [document.createElement('li'), document.createElement('a')];
    Object.assign(link, { href: `/?${query}&via=${via}`, target: '_blank', rel: 'noopener', textContent: `${titleOf(via)} only` });
    line.append(link);
    return line;
  }));
  find('#curl-publish').textContent = `curl -d 'hi' '${location.origin}/v1/messages?${query}'`;
  find('#curl-read').textContent = `curl -N '${location.origin}/v1/events?${query}'`;
}

/** Reads each message aloud once, whichever column had it first. */
const announced = new Set();
function announce({ id, event, body }) {
  if (announced.has(id)) return;
  announced.add(id);
  if (announced.size > 1000) announced.delete(announced.values().next().value);
  const line = document.createElement('p');
  line.textContent = `${event ?? 'message'}: ${typeof body === 'string' ? body : JSON.stringify(body)}`;
  find('#announcer').append(line);
  while (find('#announcer').childElementCount > 5) find('#announcer').firstElementChild.remove();
}

function say(text, isBad = false) {
  find('#published').textContent = text;
  find('#published').classList.toggle('bad', isBad);
}

async function publish(bodies) {
  const form = new FormData(find('#publish'));
  const options = { event: form.get('event').trim(), type: form.get('type'), retain: form.has('retain') };
  const topic = find('#topic').value;
  const begun = performance.now();
  try {
    const answers = await Promise.all(bodies.map((body) => client.publish(topic, body, options)));
    const took = Math.round(performance.now() - begun);
    const { durability, cursor } = answers.at(-1);
    const what = answers.length > 1 ? `${answers.length} messages published` : 'Published';
    say(`${what} in ${took} ms · ${durability} · ${cursor}`);
    return true;
  } catch (problem) {
    say(problem.message, true);
    return false;
  }
}

function listen() {
  const body = find('#body');
  find('#publish').addEventListener('submit', async (event) => {
    event.preventDefault();
    const text = body.value;
    body.value = '';
    if (!await publish([text]) && body.value === '') body.value = text;
  });
  body.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    find('#publish').requestSubmit();
  });
  find('#burst').addEventListener('click', () => {
    const isJson = find('#type').value === 'application/json';
    publish(Array.from({ length: BURST }, (_, i) => (isJson ? `{"number":${i + 1}}` : `${body.value || 'message'} ${i + 1}`)));
  });
  find('#follow').addEventListener('submit', (event) => {
    event.preventDefault();
    address.set('topic', find('#topic').value);
    address.set('start', find('#start').value);
    history.replaceState(null, '', `?${address}`);
    follow(find('#topic').value, find('#start').value);
  });
  document.addEventListener('visibilitychange', rest);
}

/**
 * A hidden window lets its connections go and catches up by its cursors when it is looked at again: browsers allow six
 * connections to a server over all windows, and waiting ones would starve the rest.
 */
let resting = [];
function rest() {
  if (document.hidden) {
    resting = columns.filter((column) => column.isRunning);
    resting.forEach((column) => column.stop());
  } else {
    resting.filter((column) => columns.includes(column)).forEach((column) => column.start());
    resting = [];
  }
}

function draw() {
  columns.forEach((column) => column.strip.draw());
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) setTimeout(draw, 1000);
  else requestAnimationFrame(draw);
}

find('#topic').value = address.get('topic') || 'room/42';
find('#start').value = address.get('start') === 'earliest' ? 'earliest' : 'latest';
listen();
watchConnections(client);
follow(find('#topic').value, find('#start').value);
draw();
